"""CINIC-10: the classes of CIFAR-10, most images from ImageNet."""

from __future__ import annotations

from mmengine.fileio import join_path
from mmpretrain.datasets import BaseDataset

from mmlocal.registry import DATASETS

from .cifar10 import CIFAR10, check_classes
from .files import images_by_class, require_files


@DATASETS.register_module()
class CINIC10(BaseDataset):
    """CINIC-10 from its folders, 90,000 images of 32x32 pixels a split.

    Images are in memory, in RGB order like those of CIFAR-10: no transform
    loads them, and ``data_preprocessor`` takes ``to_rgb=False``.

    Args:
        data_root (str): Folder with ``train/<class>/*.png``,
            ``valid/<class>/*.png`` and ``test/<class>/*.png``.
        split (str): 'train', 'valid' or 'test'. Some published protocols
            test on 'valid' and leave 'test' alone. Defaults to 'train'.
        classes (Sequence[str], optional): See :class:`mmlocal.CIFAR10`.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If the folder of a class is missing.
        ValueError: For an unknown split, or a class that is unknown or
            there twice.
    """

    METAINFO = CIFAR10.METAINFO
    SPLITS = ('train', 'valid', 'test')

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in self.SPLITS:
            raise ValueError(f'split={split!r}: write one of {self.SPLITS}.')
        self.split = split
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The images (32, 32, 3) uint8 of the classes, with their labels."""
        names = self.metainfo['classes']
        check_classes(names, self.METAINFO['classes'])
        root = join_path(self.data_root, self.split)
        folders = [join_path(root, name) for name in names]
        require_files('CINIC10', folders, self.data_root)
        return images_by_class(root, names)
