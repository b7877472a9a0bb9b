"""I(X;T) and I(T;Y) of modules."""

import json
import math

import numpy as np
import pytest

from mmlocal.analysis import Features
from mmlocal.analysis.mine import MutualInformation
from mmlocal.analysis.mine import measure as module
from mmlocal.analysis.mine.measure import label_entropy

QUICK = dict(
    hidden=32, iterations=80, lr=5e-3, repeats=2, batch_size=64, interval=40
)


def features(num=600, classes=4) -> Features:
    """A module of noise; one that holds the label and half of the image."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, num)
    inputs = rng.normal(size=(num, 4)).astype('f')
    held = np.concatenate(
        [np.eye(classes)[labels], 0.5 * rng.normal(size=(num, 4)) + inputs], 1
    )
    noise = rng.normal(size=(num, 3))
    return Features(
        ['noise', 'held'],
        [noise.astype('f'), held.astype('f')],
        labels,
        inputs,
    )


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(
        module, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    return lines


@pytest.mark.slow
def test_the_plane(told):
    data = features()
    values = MutualInformation(**QUICK).measure(data)
    entropy = label_entropy(data.labels)
    assert entropy == pytest.approx(math.log(4), abs=0.01)
    assert values['label_entropy'] == [entropy] * 2
    noise, held = values['ty']
    assert abs(noise) < 0.05
    assert entropy - 0.3 < held < entropy + 0.1
    noise, held = values['xt']
    # Four channels with noise of a quarter of the variance: 2 ln 5.
    assert abs(noise) < 0.1
    assert 0.6 * 2 * math.log(5) < held < 2 * math.log(5)
    for mode in 'xt', 'ty':
        assert len(values[f'{mode}_in_sample']) == 2
        assert all(0 < std < 0.5 for std in values[f'{mode}_std'])
        # A half of the held-out half.
        assert values[f'{mode}_ceiling'][0] == pytest.approx(math.log(150))


def test_mean_and_deviation_over_repeats(monkeypatch, told):
    from mmlocal.analysis.mine.estimator import Estimate

    seeds = []

    def fake(a, b, setting, seed):
        seeds.append(seed)
        return Estimate(float(seed), 10.0 * seed, 100.0)

    monkeypatch.setattr(module, 'estimate', fake)
    values = MutualInformation(['ty'], repeats=3, seed=7).measure(features())
    assert values['ty'] == [8, 8]
    assert values['ty_std'] == [1, 1]
    assert values['ty_in_sample'] == [80, 80]
    assert seeds == [7, 8, 9] * 2
    once = MutualInformation(['ty'], repeats=1).measure(features())
    assert once['ty_std'] == [None, None]


def test_x_is_first_and_t_is_first(monkeypatch, told):
    shapes = []

    def fake(a, b, setting, seed):
        from mmlocal.analysis.mine.estimator import Estimate

        shapes.append((a.shape[1], b.shape[1]))
        return Estimate(0.0, 0.0, 1.5)

    monkeypatch.setattr(module, 'estimate', fake)
    MutualInformation(repeats=1).measure(features())
    assert shapes == [(4, 3), (3, 4), (4, 8), (8, 4)]


@pytest.mark.parametrize(
    ('value', 'ceiling', 'count', 'text'),
    [
        (0.5, 9.0, 0, None),
        (1.3, 2.2, 2, r'I\(T;Y\) of noise, 1.30 nats, is near 2.20'),
        (1.5, 9.0, 2, 'above the entropy of the labels'),
    ],
)
def test_warnings(monkeypatch, told, value, ceiling, count, text):
    from mmlocal.analysis.mine.estimator import Estimate

    monkeypatch.setattr(
        module, 'estimate', lambda *args: Estimate(value, value, ceiling)
    )
    MutualInformation(['ty']).measure(features())
    assert len(told) == count
    if text:
        import re

        assert re.search(text, told[0])


def test_a_real_value_near_what_the_sample_shows_is_named(told):
    """T = X: infinite information, and 200 images."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 2)).astype('f')
    data = Features(['copy'], [images], inputs=images)
    values = MutualInformation(['xt'], bound='infonce', **QUICK).measure(data)
    assert values['xt'][0] > math.log(50) - 1
    assert 'I(X;T) of copy' in told[0]
    assert 'larger batch_size' in told[0]


def test_settings_of_both_modes():
    measure = MutualInformation(bound='nwj', ty=dict(iterations=9))
    settings = measure.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings['modes']['xt']['bound'] == 'nwj'
    assert settings['modes']['xt']['iterations'] == 500
    assert settings['modes']['ty']['iterations'] == 9
    assert measure.readings['features'].inputs
    assert not MutualInformation(['ty']).readings['features'].inputs
    with pytest.raises(ValueError, match="no argument 'iters'"):
        MutualInformation(iters=3)
    with pytest.raises(ValueError, match='modes'):
        MutualInformation(['tx'])
    with pytest.raises(ValueError, match="'papers'"):
        MutualInformation(protocol='papers')


def test_the_published_protocol():
    measure = MutualInformation(protocol='published')
    assert measure.repeats == 1
    xt, ty = measure.modes['xt'], measure.modes['ty']
    assert (xt.lr, xt.iterations) == (8e-5, 10_000)
    assert (ty.lr, ty.iterations) == (1e-5, 20_000)
    assert (xt.batch_size, xt.window, xt.holdout) == (5000, 500, 0)


def test_what_is_missing_is_said():
    data = features()
    with pytest.raises(ValueError, match="write modes=\\['ty'\\]"):
        MutualInformation().measure(
            Features(data.modules, data.values, data.labels)
        )
    with pytest.raises(ValueError, match="write modes=\\['xt'\\]"):
        MutualInformation().measure(
            Features(data.modules, data.values, None, data.inputs)
        )
