"""Which images are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SEED = 0


def choose(dataset: Any, num_images: int | None, even: bool) -> list[int]:
    """A fixed choice of images, the same in each call.

    Args:
        dataset (Dataset): Of mmengine, or a wrapper of one.
        num_images (int, optional): How many; None for all.
        even (bool): In an order in which classes take turns, so that
            neighbours have all of them alike, as long as there are images
            of each. False keeps the order of the data set.

    Returns:
        list[int]: Indices. A part of a data set has all classes alike if
        its images have one (``gt_label``), else it is drawn at random.

    Raises:
        ValueError: If there are not so many.
    """
    count = len(dataset)
    if num_images is None:
        num_images = count
    if not 0 < num_images <= count:
        raise ValueError(
            f'{num_images} images are asked for, and the data set has '
            f'{count} images: write a smaller num_images, or a smaller m or '
            'num_batches for measures of batches.'
        )
    if num_images == count and not even:
        return list(range(count))
    order = taking_turns(labels_of(dataset))[:num_images]
    return order if even else sorted(order)


def labels_of(dataset: Any) -> np.ndarray:
    """The class of each image (N,); 0 for all if they have none."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    labels = [info.get('gt_label', 0) for info in infos]
    if any(np.ndim(label) for label in labels):  # several classes an image
        return np.zeros(len(labels), dtype=int)
    return np.asarray(labels, dtype=int)


def taking_turns(labels: Sequence[int]) -> list[int]:
    """Indices of images, shuffled, in rounds of one of each class.

    A class that has no image left is passed over.
    """
    generator = np.random.default_rng(SEED)
    labels = np.asarray(labels)
    turn = np.empty(len(labels), dtype=int)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        turn[members] = np.arange(len(members))
    return np.lexsort((generator.permutation(len(labels)), turn)).tolist()
