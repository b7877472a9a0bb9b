"""Shapes for image classification."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.datasets import BaseDataset

from mmlocal.datasets.shapes import SHAPES, make_recipes
from mmlocal.registry import DATASETS


@DATASETS.register_module()
class ShapesCls(BaseDataset):
    """One prominent shape among clutter, which is the label of the image.

    The clutter is small shapes of every kind. Nothing is read from disk, but
    the pipeline is that of any mmpretrain data set: it starts with
    ``LoadImageFromFile``.

    Args:
        num_images (int): How many. Defaults to 1000.
        image_size (Sequence[int]): (height, width) in pixels, each 24 or
            more. Defaults to (32, 32).
        split (str): 'train' or 'val', which share no image. Defaults to
            'train'.
        seed (int): Another seed is another data set. Defaults to 0.
        noise (float): Standard deviation of the pixel noise, in grey levels.
            Defaults to 8.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ValueError: For an argument out of range.
    """

    METAINFO = {'classes': SHAPES}

    def __init__(
        self,
        num_images: int = 1000,
        image_size: Sequence[int] = (32, 32),
        split: str = 'train',
        seed: int = 0,
        noise: float = 8.0,
        **kwargs,
    ) -> None:
        self.recipes = make_recipes(
            'cls', num_images, image_size, split, seed, noise
        )
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """The paths at which the images are drawn, and their labels."""
        return [
            {'img_path': recipe.img_path, 'gt_label': recipe.label()}
            for recipe in self.recipes
        ]
