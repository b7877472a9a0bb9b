"""Features of many images, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmlocal.config import innermost_dataset
from mmlocal.models.local_heads.targets import (
    class_labels,
    frame_labels,
    pixel_labels,
)
from mmlocal.models.tracing import plain_eval
from mmlocal.random_state import kept_random_state

from .choice import choose
from .features import Features
from .forms import FORMS, LARGEST, SKETCH, flattened
from .measure import Reading
from .taps import Taps


class Source:
    """Images of a config, without augmentation.

    Training images come through the pipeline of the validation.

    Args:
        cfg (Mapping): Of mmseg or mmpretrain, with ``val_dataloader``, and
            ``train_dataloader`` if such images are read.
        batch_size (int, optional): By default that of ``val_dataloader``.

    Raises:
        ValueError: If the config has no such loader.
    """

    def __init__(self, cfg: Mapping[str, Any], batch_size: int | None = None):
        self.cfg = cfg
        loader = self._loader('val')
        self.batch_size = batch_size or loader.get('batch_size', 1)
        self._datasets: dict[str, Any] = {}
        self._chosen: dict[tuple, list[int]] = {}

    def dataset(self, split: str) -> Any:
        """The data set of 'train' or 'val'; built once."""
        if split not in self._datasets:
            cfg = self._loader(split)['dataset']
            if split == 'train':
                seen = innermost_dataset(self._loader('val')['dataset'])
                pipeline = seen.get('pipeline', [])
                cfg = {**innermost_dataset(cfg), 'pipeline': pipeline}
            scope = self.cfg.get('default_scope') or 'mmengine'
            with DefaultScope.overwrite_default_scope(scope):
                self._datasets[split] = DATASETS.build(cfg)
        return self._datasets[split]

    def batches(self, reading: Reading) -> DataLoader:
        """The images of a reading, in order."""
        dataset = self.dataset(reading.split)
        even = reading.group is not None
        key = reading.split, reading.num_images, even
        if key not in self._chosen:  # reads the labels of all images
            self._chosen[key] = choose(dataset, reading.num_images, even)
        return DataLoader(
            Subset(dataset, self._chosen[key]),
            self.batch_size,
            collate_fn=pseudo_collate,
        )

    def _loader(self, split: str) -> Mapping[str, Any]:
        loader = self.cfg.get(f'{split}_dataloader')
        if not loader:
            raise ValueError(
                f'the config has no {split}_dataloader, whose images are to '
                'be looked at.'
            )
        return loader


class Extractor:
    """Reads the features of a model.

    Args:
        model (nn.Module): With a data preprocessor.
        taps (Taps): Where.
        source (Source): Of which images.
        folder (Path): For the memory maps.
    """

    def __init__(
        self, model: nn.Module, taps: Taps, source: Source, folder: Path
    ):
        self.model = model
        self.taps = taps
        self.source = source
        self.folder = folder
        self._read: dict[Reading, Features] = {}

    def read(self, reading: Reading) -> Features:
        """What the model makes of the images of a reading.

        Equal readings are made once: the weights must not change meanwhile.

        Raises:
            ValueError: If features or labels of different images have
                different shapes.
        """
        if reading not in self._read:
            self._read[reading] = self._run(reading)
        return self._read[reading]

    def _run(self, reading: Reading) -> Features:
        """Run the model over the images of a reading.

        It runs in eval mode and without gradient; modes and random states
        are afterwards as before.
        """
        from rich.progress import track

        batches = self.source.batches(reading)
        where = Path(mkdtemp(dir=self.folder))
        tables: dict[str, Table] = {}
        with plain_eval(self.model), kept_random_state():
            for batch in track(
                batches, f'features of {reading.split}', transient=True
            ):
                for name, rows in self._read_batch(batch, reading).items():
                    if name not in tables:
                        count = len(batches.dataset)
                        path = where / f'{len(tables)}.npy'
                        tables[name] = Table(path, count)
                    tables[name].append(rows)
        arrays = {name: table.array for name, table in tables.items()}
        dataset = self.source.dataset(reading.split)
        of_frames = reading.form == 'frames'
        key = 'frame_classes' if of_frames else 'classes'
        classes = dataset.metainfo.get(key)
        return Features(
            modules=self.taps.names,
            values=[arrays[name] for name in self.taps.names],
            labels=arrays.get(_LABELS),
            inputs=arrays.get(_INPUTS),
            num_classes=len(classes) if classes else None,
            ignore_index=getattr(dataset, 'ignore_index', 255),
        )

    def _read_batch(
        self, batch: Any, reading: Reading
    ) -> dict[str, np.ndarray]:
        data = self.model.data_preprocessor(batch, False)
        images: Tensor = data['inputs']
        form = FORMS[reading.form]

        def read(feat: Tensor) -> np.ndarray:
            if reading.form == 'flat':
                _tell_of_sketch(feat[: max(len(feat) // len(images), 1)])
            return form(feat, images).float().cpu().numpy()

        rows = dict(zip(self.taps.names, self.taps(images, read), strict=True))
        if reading.inputs:
            rows[_INPUTS] = flattened(images, images).float().cpu().numpy()
        labels = _labels(data.get('data_samples'), reading.form)
        if labels is not None:
            rows[_LABELS] = labels.cpu().numpy()
        return rows


class Table:
    """Rows in a memory map, appended batch by batch.

    Args:
        path (Path): Of the file.
        count (int): Rows that will come.
    """

    def __init__(self, path: Path, count: int):
        self.path = path
        self.count = count
        self.filled = 0
        self.array: np.ndarray | None = None

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows.

        Raises:
            ValueError: If they have another shape than those before.
        """
        if self.array is None:
            self.array = np.lib.format.open_memmap(
                self.path, 'w+', rows.dtype, (self.count, *rows.shape[1:])
            )
        if rows.shape[1:] != self.array.shape[1:]:
            raise ValueError(
                'images of different sizes cannot be looked at together: '
                f'after {self.array.shape[1:]} came {rows.shape[1:]}. Write '
                'a val_dataloader whose pipeline gives all one size.'
            )
        self.array[self.filled : self.filled + len(rows)] = rows
        self.filled += len(rows)


_INPUTS, _LABELS = '(inputs)', '(labels)'


def _labels(samples: Any, form: str) -> Tensor | None:
    """Of a batch; where frames are read, those of frames."""
    if not samples:
        return None
    if form == 'frames':
        return frame_labels(samples)
    if 'gt_label' in samples[0]:
        return class_labels(samples)
    if 'gt_sem_seg' in samples[0]:
        shapes = {tuple(each.gt_sem_seg.data.shape) for each in samples}
        if len(shapes) > 1:
            raise ValueError(
                f'label maps of different sizes, {sorted(shapes)}, cannot be '
                'looked at together.'
            )
        return pixel_labels(samples)
    return None


_told: set[int] = set()


def _tell_of_sketch(feat: Tensor) -> None:
    numbers = feat.numel()
    if numbers > LARGEST and numbers not in _told:
        _told.add(numbers)
        print_log(
            f'features of {numbers:,} numbers are projected at random to '
            f'{SKETCH:,}',
            logger='current',
        )
