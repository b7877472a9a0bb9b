"""SVHN: house numbers, seen from the street."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from mmengine.fileio import get, join_path
from mmpretrain.datasets import BaseDataset
from scipy.io import loadmat

from mmlocal.datasets.files import require_files
from mmlocal.registry import DATASETS


@DATASETS.register_module()
class SVHN(BaseDataset):
    """Cropped digits of 32x32 pixels (format 2).

    Images are in memory, in RGB order like those of mmpretrain's CIFAR10: no
    transform loads them, and ``data_preprocessor`` takes ``to_rgb=False``.

    Args:
        data_root (str): Folder with ``train_32x32.mat`` and
            ``test_32x32.mat``.
        split (str): 'train' (73,257 images), 'test' (26,032) or 'extra'
            (531,131 easier ones). Defaults to 'train'.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If the file of the split is missing.
        ValueError: For an unknown split.
    """

    METAINFO = {'classes': tuple('0123456789')}
    SPLITS = ('train', 'test', 'extra')

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in self.SPLITS:
            raise ValueError(f'split={split!r}: write one of {self.SPLITS}.')
        self.split = split
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The images (32, 32, 3) uint8 with their labels."""
        path = join_path(self.data_root, f'{self.split}_32x32.mat')
        require_files('SVHN', [path], self.data_root)
        content = loadmat(BytesIO(get(path)))
        images = np.ascontiguousarray(content['X'].transpose(3, 0, 1, 2))
        labels = content['y'].ravel() % 10  # the files write 0 as 10
        return [
            {'img': image, 'gt_label': int(label)}
            for image, label in zip(images, labels, strict=True)
        ]
