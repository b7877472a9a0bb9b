"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmlocal.registry import DATASETS

# Of each class, every FIFTH image is for testing, up to PER_CLASS of them.
FIFTH = 5
PER_CLASS = 35


@DATASETS.register_module()
class Digits(BaseDataset):
    """1,797 digits of 8x8 pixels, written by 13 people.

    Nothing is downloaded: ``sklearn.datasets.load_digits`` has them. Of the
    images of each class, in the order of that file, those numbered 0, 5, 10,
    ..., 170 are for testing and all others for training: 350 images, 35 of
    each class, and 1,447. The two share writers.

    Images are in memory, with one channel of 0 to 255 (the file's 0 to 16):
    no transform loads them.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        **kwargs: Of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ValueError: For an unknown split.
    """

    METAINFO = {'classes': tuple('0123456789')}
    SPLITS = ('train', 'test')

    def __init__(self, split: str = 'train', **kwargs) -> None:
        if split not in self.SPLITS:
            raise ValueError(f'split={split!r}: write one of {self.SPLITS}.')
        self.split = split
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """The images (8, 8, 1) uint8 with their labels."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = np.rint(images * (255 / 16)).astype(np.uint8)
        testing = np.zeros(len(labels), dtype=bool)
        for label in range(10):
            places = np.flatnonzero(labels == label)
            testing[places[::FIFTH][:PER_CLASS]] = True
        chosen = testing if self.split == 'test' else ~testing
        return [
            {'img': image.reshape(8, 8, 1), 'gt_label': int(label)}
            for image, label in zip(
                images[chosen], labels[chosen], strict=True
            )
        ]
