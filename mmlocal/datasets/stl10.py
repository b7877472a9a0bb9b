"""STL-10: ten kinds of animals and vehicles."""

from __future__ import annotations

import numpy as np
from mmengine.fileio import get, join_path
from mmpretrain.datasets import BaseDataset

from mmlocal.datasets.files import require_files
from mmlocal.registry import DATASETS


@DATASETS.register_module()
class STL10(BaseDataset):
    """The labelled images of STL-10, 96x96 pixels.

    Images are in memory, in RGB order like those of mmpretrain's CIFAR10: no
    transform loads them, and ``data_preprocessor`` takes ``to_rgb=False``.

    Args:
        data_root (str): Folder with ``train_X.bin``, ``train_y.bin``,
            ``test_X.bin`` and ``test_y.bin``.
        split (str): 'train' (5,000 images) or 'test' (8,000). Defaults to
            'train'.
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
    SPLITS = ('train', 'test')

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in self.SPLITS:
            raise ValueError(f'split={split!r}: write one of {self.SPLITS}.')
        self.split = split
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The images (96, 96, 3) uint8 with their labels."""
        paths = [
            join_path(self.data_root, f'{self.split}_{part}.bin')
            for part in 'Xy'
        ]
        require_files('STL10', paths, self.data_root)
        pixels, labels = (np.frombuffer(get(p), np.uint8) for p in paths)
        # The files hold channel by channel, and each one column by column.
        images = pixels.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        images = np.ascontiguousarray(images)
        return [
            {'img': image, 'gt_label': int(label) - 1}
            for image, label in zip(images, labels, strict=True)
        ]
