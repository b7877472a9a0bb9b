"""CIFAR-100, from the original archive or from folders of images."""

from __future__ import annotations

import mmpretrain.datasets

from mmlocal.registry import DATASETS

from .cifar10 import FoldersOrArchive


@DATASETS.register_module()
class CIFAR100(FoldersOrArchive, mmpretrain.datasets.CIFAR100):
    """mmpretrain's CIFAR100 with its fine labels, also from class folders.

    Images are in memory, in RGB order: no transform loads them, and
    ``data_preprocessor`` takes ``to_rgb=False``.

    Args:
        data_root (str): Folder with ``train/<class>/*`` and
            ``test/<class>/*``; or else with the original archive, which is
            downloaded if it is not there either.
        split (str): 'train' (50,000 images) or 'test' (10,000). Defaults to
            'train'.
        classes (Sequence[str], optional): See :class:`mmlocal.CIFAR10`.
        **kwargs: Of :class:`mmpretrain.datasets.CIFAR100`.

    Raises:
        ValueError: If a class is unknown or there twice.
    """
