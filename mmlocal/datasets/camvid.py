"""CamVid: road scenes, seen from a car."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset

from mmlocal.datasets.files import missing_message, require_files
from mmlocal.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid with the 11 classes that are in common use.

    The label maps hold 0 to 10, and 11 where nothing is labelled, which
    ``LoadAnnotations`` turns into ``ignore_index`` through the label map.

    Args:
        img_suffix (str): Of the images. Defaults to '.jpg'.
        seg_map_suffix (str): Of the label maps. Defaults to '.png'.
        **kwargs: Of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        FileNotFoundError: If an image folder is missing or empty, or an
            image has no label map.
    """

    METAINFO = {
        'classes': (
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        'palette': [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }
    UNLABELLED = 11

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )

    @classmethod
    def get_label_map(cls, new_classes: Sequence | None = None) -> dict:
        """Labels to ignore and, for chosen classes, to renumber."""
        label_map = super().get_label_map(new_classes) or {}
        return {**label_map, cls.UNLABELLED: 255}

    def load_data_list(self) -> list[dict]:
        """The images of a folder with their label maps."""
        name = type(self).__name__
        folder = self.data_prefix['img_path']
        require_files(name, [folder], self.data_root)
        data_list = super().load_data_list()
        if not data_list:
            what = f'no *{self.img_suffix} in {folder}'
            raise FileNotFoundError(
                missing_message(name, what, self.data_root)
            )
        masks = [i['seg_map_path'] for i in data_list if 'seg_map_path' in i]
        require_files(name, masks, self.data_root)
        return data_list
