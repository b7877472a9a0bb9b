"""Features of one module over a dataset, in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class FeatureFile:
    """One tensor an image, in a NumPy file that is mapped into memory.

    It is written under another name and renamed at the end; a file beside it
    says then what it holds. A file without that, or with another one, is not
    read.

    Args:
        path (Path): Ends with ``.npy``.
        count (int): Images.
        shape (Sequence[int]): Of one feature.
        dtype (torch.dtype): NumPy has no bfloat16; its bits lie in the file
            as int16.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        shape: Sequence[int],
        dtype: torch.dtype,
    ):
        self.path = path
        self.count = count
        self.shape = tuple(shape)
        self.dtype = dtype
        self._bits = torch.int16 if dtype == torch.bfloat16 else dtype
        self._map: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Of the features."""
        return self.count * prod(self.shape) * self.dtype.itemsize

    @property
    def part(self) -> Path:
        """What it is called while it is being written."""
        return self.path.with_suffix('.npy.part')

    @property
    def label(self) -> Path:
        """The file that says what is in it."""
        return self.path.with_suffix('.json')

    def holds(self, fingerprint: str) -> bool:
        """Whether it is complete, and of what the fingerprint stands for."""
        if not (self.path.exists() and self.label.exists()):
            return False
        return json.loads(self.label.read_text()) == self._text(fingerprint)

    def create(self) -> None:
        """Take all of its room on the disk.

        Raises:
            OSError: If there is not enough.
        """
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(
            self.part,
            'w+',
            torch.empty(0, dtype=self._bits).numpy().dtype,
            (self.count, *self.shape),
        )
        size = array.offset + array.nbytes
        del array
        # A file with holes would end the process (SIGBUS) on a full disk.
        if hasattr(os, 'posix_fallocate') and size:
            with self.part.open('r+b') as file:
                os.posix_fallocate(file.fileno(), 0, size)

    def write(self, rows: Sequence[int], feats: Tensor) -> None:
        """Put features (N, ...) in their rows, before it is complete.

        Raises:
            ValueError: If they have another shape.
        """
        if feats.shape[1:] != self.shape:
            raise ValueError(
                'train_cfg.cache: features of all images need one shape, but '
                f'image {rows[0]} has {tuple(feats.shape[1:])} and others '
                f'{self.shape}: crop or resize them to one size in '
                'train_dataloader.dataset.pipeline.'
            )
        if self._map is None:
            self._map = np.load(self.part, 'r+')
        bits = feats.detach().to(self.dtype).cpu().view(self._bits)
        self._map[rows] = bits.numpy()

    def flush(self) -> None:
        """See that what was written here is in the file."""
        if self._map is not None:
            self._map.flush()
        self._map = None

    def complete(self, fingerprint: str) -> None:
        """Say that all is written, and what it is."""
        self.part.replace(self.path)
        draft = self.label.with_suffix('.json.part')
        draft.write_text(json.dumps(self._text(fingerprint)))
        draft.replace(self.label)

    def remove(self) -> None:
        """From the disk, in whatever state."""
        # What it holds is forgotten first.
        for path in (self.label, self.path, self.part):
            path.unlink(missing_ok=True)
        self._map = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: int | Sequence[int]) -> Tensor:
        if self._map is None:
            self._map = np.load(self.path, 'r')
        return torch.from_numpy(np.array(self._map[rows])).view(self.dtype)

    def __getstate__(self) -> dict:
        # Each process maps it for itself.
        return {**vars(self), '_map': None}

    def _text(self, fingerprint: str) -> dict:
        return {
            'fingerprint': fingerprint,
            'shape': [self.count, *self.shape],
            'dtype': str(self.dtype),
        }
