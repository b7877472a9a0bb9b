"""What modules put out for some images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Features:
    """Of every module, for the same images in the same order.

    Args:
        modules (Sequence[str]): Their names, in forward order.
        values (Sequence[np.ndarray]): float32, one array a module: (N, C),
            (N, C, h, w) where maps are read, or (N, C, T) where frames of
            waveforms are; memory maps, if they are large.
        labels (np.ndarray, optional): Classes (N,), label maps (N, H, W) or
            labels of frames (N, T), int64.
        inputs (np.ndarray, optional): The preprocessed images (N, D),
            float32, flattened; as the features, if they are large,
            projected.
        num_classes (int, optional): As many as the data set names.
        ignore_index (int): Label of pixels that do not count. Defaults to
            255.
    """

    modules: Sequence[str]
    values: Sequence[np.ndarray]
    labels: np.ndarray | None = None
    inputs: np.ndarray | None = None
    num_classes: int | None = None
    ignore_index: int = 255

    def __len__(self) -> int:
        return len(self.values[0])
