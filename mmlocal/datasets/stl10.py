"""STL-10: ten kinds of animals and vehicles."""

from __future__ import annotations

import os

import numpy as np
from mmengine.fileio import get, join_path
from mmpretrain.datasets import BaseDataset

from mmlocal.datasets.files import require_files
from mmlocal.registry import DATASETS

# Of an image.
BYTES = 3 * 96 * 96
# torch's cross-entropy leaves this label out (``ignore_index``).
UNLABELED = -100


@DATASETS.register_module()
class STL10(BaseDataset):
    """The images of STL-10, 96x96 pixels.

    They are in RGB order like those of mmpretrain's CIFAR10: no transform
    loads them, and ``data_preprocessor`` takes ``to_rgb=False``. Labelled
    images are in memory, the others are read one by one.

    Args:
        data_root (str): Folder with ``train_X.bin``, ``train_y.bin``,
            ``test_X.bin``, ``test_y.bin`` and ``unlabeled_X.bin``, as far as
            the split needs them.
        split (str): 'train' (5,000 images), 'test' (8,000), 'unlabeled'
            (100,000), or 'train+unlabeled', the labelled ones first. Images
            without a label have :data:`UNLABELED`. Defaults to 'train'.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If a file of the split is missing.
        ValueError: For an unknown split.
    """

    METAINFO = {
        'classes': (
            'airplane',
            'bird',
            'car',
            'cat',
            'deer',
            'dog',
            'horse',
            'monkey',
            'ship',
            'truck',
        )
    }
    SPLITS = ('train', 'test', 'unlabeled', 'train+unlabeled')

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in self.SPLITS:
            raise ValueError(f'split={split!r}: write one of {self.SPLITS}.')
        self.split = split
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Images (96, 96, 3) uint8 with their labels; of others the place."""
        parts = self.split.split('+')
        samples = []
        if parts[0] != 'unlabeled':
            samples += self._labelled(parts[0])
        if parts[-1] == 'unlabeled':
            (path,) = self._require('unlabeled_X.bin')
            count = os.path.getsize(path) // BYTES
            samples += [
                {'row': row, 'gt_label': UNLABELED} for row in range(count)
            ]
        return samples

    def get_data_info(self, idx: int) -> dict:
        """A sample with its image."""
        info = super().get_data_info(idx)
        if 'row' in info:
            path = join_path(self.data_root, 'unlabeled_X.bin')
            pixels = np.fromfile(
                path, np.uint8, BYTES, offset=info['row'] * BYTES
            )
            (info['img'],) = _images(pixels)
        return info

    def _labelled(self, split: str) -> list[dict]:
        paths = self._require(f'{split}_X.bin', f'{split}_y.bin')
        pixels, labels = (np.frombuffer(get(p), np.uint8) for p in paths)
        return [
            {'img': image, 'gt_label': int(label) - 1}
            for image, label in zip(_images(pixels), labels, strict=True)
        ]

    def _require(self, *names: str) -> list[str]:
        paths = [join_path(self.data_root, name) for name in names]
        require_files('STL10', paths, self.data_root)
        return paths


def _images(pixels: np.ndarray) -> np.ndarray:
    """(N, 96, 96, 3), of files channel by channel, each column by column."""
    images = pixels.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(images)
