"""CIFAR-10, from the original archive or from folders of images."""

from __future__ import annotations

import mmpretrain.datasets
import numpy as np
from mmcv import imfrombytes
from mmengine.fileio import exists, get, join_path, list_dir_or_file

from mmlocal.registry import DATASETS


@DATASETS.register_module()
class CIFAR10(mmpretrain.datasets.CIFAR10):
    """mmpretrain's CIFAR10, which also reads a folder a class.

    Images are in memory, in RGB order: no transform loads them, and
    ``data_preprocessor`` takes ``to_rgb=False``.

    Args:
        data_root (str): Folder with ``train/<class>/*`` and
            ``test/<class>/*``; or else with the original archive, which is
            downloaded if it is not there either.
        split (str): 'train' (50,000 images) or 'test' (10,000). Defaults to
            'train'.
        **kwargs: Of :class:`mmpretrain.datasets.CIFAR10`.
    """

    def load_data_list(self) -> list[dict]:
        """The images (32, 32, 3) uint8 with their labels."""
        root = join_path(self.data_prefix['root'], self.split)
        if not exists(root):
            return super().load_data_list()
        return [
            dict(img=_read_rgb(join_path(folder, name)), gt_label=label)
            for label, cls in enumerate(self.metainfo['classes'])
            for folder in [join_path(root, cls)]
            for name in sorted(list_dir_or_file(folder, list_dir=False))
        ]


def _read_rgb(path: str) -> np.ndarray:
    return imfrombytes(get(path), channel_order='rgb')
