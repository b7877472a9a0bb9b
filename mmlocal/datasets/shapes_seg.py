"""Shapes for semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset

from mmlocal.datasets.shapes import SHAPES, make_recipes
from mmlocal.registry import DATASETS


@DATASETS.register_module()
class ShapesSeg(BaseSegDataset):
    """Several shapes in an image, a label for every pixel.

    Nothing is read from disk, but the pipeline is that of any mmseg data
    set: it starts with ``LoadImageFromFile`` and ``LoadAnnotations``.

    Args:
        num_images (int): How many. Defaults to 1000.
        image_size (Sequence[int]): (height, width) in pixels, each 24 or
            more. Defaults to (96, 96).
        split (str): 'train' or 'val', which share no image. Defaults to
            'train'.
        seed (int): Another seed is another data set. Defaults to 0.
        noise (float): Standard deviation of the pixel noise, in grey levels.
            Defaults to 8.
        **kwargs: Of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        ValueError: For an argument out of range.
    """

    METAINFO = {
        'classes': ('background', *SHAPES),
        'palette': [
            [50, 50, 50],
            [230, 90, 70],
            [70, 140, 230],
            [250, 200, 60],
            [110, 190, 90],
            [170, 100, 200],
        ],
    }

    def __init__(
        self,
        num_images: int = 1000,
        image_size: Sequence[int] = (96, 96),
        split: str = 'train',
        seed: int = 0,
        noise: float = 8.0,
        **kwargs,
    ) -> None:
        self.recipes = make_recipes(
            'seg', num_images, image_size, split, seed, noise
        )
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """The paths at which the images and their labels are drawn."""
        return [
            {
                'img_path': recipe.img_path,
                'seg_map_path': recipe.seg_map_path,
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
            }
            for recipe in self.recipes
        ]
