"""Pictures of predictions."""

from __future__ import annotations

import numpy as np
import pytest

from mmlocal.visualization import (
    Prediction,
    View,
    draw_classification,
    draw_modules,
    draw_segmentation,
)


def image(height: int, width: int) -> np.ndarray:
    shape = height, width, 3
    return np.random.RandomState(0).randint(0, 256, shape, np.uint8)


def test_colors_of_an_overlay_and_its_legend():
    labels = np.zeros((100, 120), int)
    labels[:, 90:] = 2
    palette = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    source = np.full((100, 120, 3), 100, np.uint8)
    picture = draw_segmentation(
        source,
        Prediction('', labels=labels),
        ['sky', 'never', 'road'],
        palette,
        opacity=0.5,
    )
    left, right = picture[200, 100], picture[200, 450]
    assert left.tolist() == [178, 50, 50]
    assert right.tolist() == [50, 50, 178]
    legend = picture[:, 520:].reshape(-1, 3).tolist()
    assert [255, 0, 0] in legend and [0, 0, 255] in legend
    assert [0, 255, 0] not in legend


def test_bars_are_as_long_as_the_probabilities():
    scores = np.array([0.1, 0.6, 0.3])
    picture = draw_classification(
        np.zeros((50, 50, 3), np.uint8), Prediction('', scores=scores), None, 2
    )
    blue = (picture == (66, 118, 184)).all(-1)
    lengths = sorted({int(n) for n in blue.sum(1) if n > 50})
    assert lengths[-1] == pytest.approx(0.6 * 358, abs=4)
    assert any(abs(n - 0.3 * 358) < 4 for n in lengths)


@pytest.mark.parametrize('scores', [None, np.array([0.7, 0.3])])
def test_picture_of_modules_has_a_column_for_each(scores):
    seen = image(60, 80)
    labels = None if scores is not None else np.ones((60, 80), int)
    modules = [
        View('layer2.0', labels, scores, reconstruction=seen),
        View('layer3.0'),  # of contrast alone
    ]
    result = Prediction('', labels, scores, seen=seen, modules=modules)
    picture = draw_modules(result, None, None)
    one = draw_modules(
        Prediction('', labels, scores, seen=seen, modules=modules[:1]),
        None,
        None,
    )
    assert picture.shape[1] - one.shape[1] == 314
    assert picture.shape[0] == one.shape[0]


def test_ground_truth_stands_below_the_image():
    seen = np.full((60, 80, 3), 100, np.uint8)
    labels = np.zeros((60, 80), int)
    truth = np.ones((60, 80), int)
    truth[:, 40:] = 255  # ignored
    palette = [[255, 0, 0], [0, 0, 255]]
    result = Prediction('', labels, seen=seen, truth=truth)
    picture = draw_modules(result, ['sky', 'road'], palette, tile=80)
    plain = Prediction('', labels, seen=seen)
    below = draw_modules(plain, ['sky', 'road'], palette, tile=80)
    assert picture.shape[0] > below.shape[0]
    colors = {tuple(each) for each in picture.reshape(-1, 3).tolist()}
    assert (25, 25, 216) in colors  # road over the image
    assert (25, 25, 25) in colors  # nothing
    assert (0, 0, 255) in colors  # in the legend
    assert (25, 25, 216) not in {
        tuple(each) for each in below.reshape(-1, 3).tolist()
    }
