"""nHSIC plane, CKA and effective rank, on features that are made up."""

import math

import numpy as np
import pytest
import torch

from mmlocal.analysis import CKA, EffectiveRank, Features, NHSICPlane
from mmlocal.models.losses import gaussian_kernel, linear_kernel, nhsic


@pytest.fixture
def features():
    """Class centres, then noise, for 64 images of 4 classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 4
    centres = rng.normal(size=(4, 6))[labels].astype(np.float32)
    noise = rng.normal(size=(64, 6)).astype(np.float32)
    inputs = rng.normal(size=(64, 12)).astype(np.float32)
    return Features(['a', 'b'], [centres, noise], labels, inputs, 4)


def test_nhsic_is_the_mean_over_batches(features):
    values = NHSICPlane(m=32, num_batches=2).measure(features)
    onehot = torch.eye(4).double()[features.labels]
    for index, feats in enumerate(features.values):
        z, x = (torch.from_numpy(a).double() for a in (feats, features.inputs))
        rows = [slice(0, 32), slice(32, 64)]
        xs = [nhsic(*map(gaussian_kernel, (z[r], x[r]))) for r in rows]
        ys = [
            nhsic(gaussian_kernel(z[r]), linear_kernel(onehot[r]))
            for r in rows
        ]
        for key, found in ('x', xs), ('y', ys):
            mean, half = sum(found) / 2, abs(found[0] - found[1]) / 2
            assert values[key][index] == pytest.approx(mean.item())
            assert values[f'{key}_sem'][index] == pytest.approx(half.item())


def test_only_what_depends_exceeds_its_shuffled_pairing(features):
    values = NHSICPlane(m=64, num_batches=1).measure(features)
    collapsed, noise = np.subtract(values['y'], values['y_shuffled'])
    assert values['y'][0] == pytest.approx(3, rel=0.05)
    assert collapsed > 2.5
    assert abs(noise) < 0.5
    assert values['x_sem'] == [None, None]


def test_label_maps_have_no_y(features):
    maps = np.zeros((64, 2, 2), dtype=int)
    features = Features(['a'], features.values[:1], maps, features.inputs, 4)
    assert 'y' not in NHSICPlane(m=32, num_batches=2).measure(features)


def test_cka_of_a_module_with_itself_and_its_rotation_is_one(features):
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    values = [each @ rotation.astype(np.float32) for each in features.values]
    rotated = Features(features.modules, values)
    found = CKA().measure(features, rotated)
    for table in found['modules'], found['reference']:
        assert np.diag(table) == pytest.approx([1, 1])
        assert table[0][1] < 0.5
    assert 'reference' not in CKA().measure(features)


def test_a_constant_module_has_no_alignment_and_no_rank(features):
    dead = Features(['a', 'b'], [features.values[0], np.ones((64, 3), 'f')])
    table = CKA().measure(dead)['modules']
    assert table[1] == [None, None]
    assert EffectiveRank().measure(dead)['effective_rank'][1] is None


def test_effective_rank_of_equal_and_of_single_directions():
    # Four orthogonal columns of mean 0 and equal length.
    signs = np.array([[1, 1], [1, -1]])
    hadamard = np.kron(np.kron(signs, signs), signs)[:, 1:5]
    line = np.outer(np.arange(8), [1, 2, 3])
    features = Features(['a', 'b'], [hadamard.astype('f'), line.astype('f')])
    four, one = EffectiveRank().measure(features)['effective_rank']
    assert four == pytest.approx(4)
    assert one == pytest.approx(1, abs=0.01)


def test_effective_rank_is_its_definition(features):
    (found, _) = EffectiveRank().measure(features)['effective_rank']
    feats = features.values[0].astype(float)
    singular = np.linalg.svd(feats - feats.mean(0), compute_uv=False)
    p = singular / singular.sum()
    p = p[p > 1e-7]
    expected = math.exp(-(p * np.log(p)).sum())
    assert found == pytest.approx(expected, rel=1e-2)
