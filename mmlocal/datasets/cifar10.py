"""CIFAR-10, from the original archive or from folders of images."""

from __future__ import annotations

from collections.abc import Sequence

import mmpretrain.datasets
from mmengine.fileio import exists, join_path

from mmlocal.registry import DATASETS

from .files import images_by_class


class FoldersOrArchive:
    """What is added to a CIFAR of mmpretrain: folders, and some classes."""

    def load_data_list(self) -> list[dict]:
        """The images (32, 32, 3) uint8 of the classes, with their labels."""
        names = self.metainfo['classes']
        known = self.METAINFO['classes']
        check_classes(names, known)
        root = join_path(self.data_prefix['root'], self.split)
        if exists(root):
            return images_by_class(root, names)
        labels = {known.index(name): label for label, name in enumerate(names)}
        return [
            {**item, 'gt_label': labels[item['gt_label']]}
            for item in super().load_data_list()
            if item['gt_label'] in labels
        ]


@DATASETS.register_module()
class CIFAR10(FoldersOrArchive, mmpretrain.datasets.CIFAR10):
    """mmpretrain's CIFAR10, which also reads a folder a class.

    Images are in memory, in RGB order: no transform loads them, and
    ``data_preprocessor`` takes ``to_rgb=False``.

    Args:
        data_root (str): Folder with ``train/<class>/*`` and
            ``test/<class>/*``; or else with the original archive, which is
            downloaded if it is not there either.
        split (str): 'train' (50,000 images) or 'test' (10,000). Defaults to
            'train'.
        classes (Sequence[str], optional): Keeps the images of these classes
            alone, labelled 0, 1, ... in this order; ``metainfo=dict(
            classes=...)`` does the same, as in mmseg. Defaults to all.
        **kwargs: Of :class:`mmpretrain.datasets.CIFAR10`.

    Raises:
        ValueError: If a class is unknown or there twice.

    Example:
        >>> CIFAR10('data/cifar10', classes=['frog', 'horse', 'ship'])
    """


def check_classes(names: Sequence[str], known: Sequence[str]) -> None:
    """Check which classes of a data set are to be kept.

    Raises:
        ValueError: If there is none, one is unknown, or one is there twice.
    """
    unknown = [name for name in names if name not in known]
    if unknown or not names or len({*names}) < len(names):
        raise ValueError(
            f'dataset.classes={[*names]}: write some of {[*known]}, each once'
        )
