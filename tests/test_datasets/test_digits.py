"""The split of the digits."""

import numpy as np
import pytest

from mmlocal.datasets import Digits
from mmlocal.registry import DATASETS


def load(split):
    cfg = {'type': 'mmlocal.Digits', 'split': split, 'pipeline': []}
    items = DATASETS.build(cfg).load_data_list()
    images = np.stack([item['img'] for item in items])
    return images, np.array([item['gt_label'] for item in items])


def test_split():
    from sklearn.datasets import load_digits

    images, labels = load('test')
    assert images.shape == (350, 8, 8, 1) and images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert np.bincount(labels).tolist() == [35] * 10
    all_images, all_labels = load_digits(return_X_y=True)
    for label in range(10):
        of_class = all_images[all_labels == label] * 255 / 16
        found = images[labels == label].reshape(35, 64)
        assert np.abs(found - of_class[0:175:5]).max() <= 0.5


def test_halves_share_no_image():
    (images, labels), (test, _) = load('train'), load('test')
    assert len(images) == 1447 and len(images) + len(test) == 1797
    assert labels.min() == 0 and labels.max() == 9
    both = np.concatenate([images, test]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797


def test_unknown_split():
    with pytest.raises(ValueError, match="split='val'"):
        Digits(split='val', pipeline=[])
