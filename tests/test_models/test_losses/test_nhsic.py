"""nHSIC and CKA against their definitions, written out in numpy."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.losses import (
    cka,
    gaussian_kernel,
    linear_kernel,
    nhsic,
)


def features(m=24, d=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, d, generator=generator, dtype=torch.float64)


def labels(m, num_classes):
    return F.one_hot(torch.arange(m) % num_classes, num_classes).double()


def numpy_gaussian(feats, sigma, power):
    m, d = feats.shape
    kernel = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            distance = np.linalg.norm(feats[i] - feats[j]) ** power
            kernel[i, j] = np.exp(-distance / (2 * sigma**2 * d))
    return kernel


def numpy_nhsic(kernel_u, kernel_v, eps=1e-5):
    """Centred on the right side alone, as published."""
    m = len(kernel_u)
    centre = np.eye(m) - np.ones((m, m)) / m

    def normalized(kernel):
        kernel = kernel @ centre
        return kernel @ np.linalg.inv(kernel + eps * m * np.eye(m))

    return np.trace(normalized(kernel_u) @ normalized(kernel_v))


@pytest.mark.parametrize('power', [1, 2])
def test_gaussian_kernel_is_its_definition(power):
    feats = features()
    kernel = gaussian_kernel(feats, sigma=0.7, squared=power == 2)
    expected = numpy_gaussian(feats.numpy(), 0.7, power)
    np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-12)


def test_centring_on_one_side_gives_the_same_value():
    u, v = features(seed=1), features(d=3, seed=2)
    value = nhsic(gaussian_kernel(u), gaussian_kernel(v))
    expected = numpy_nhsic(
        numpy_gaussian(u.numpy(), 5, 2), numpy_gaussian(v.numpy(), 5, 2)
    )
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_nhsic_is_symmetric():
    u, v = gaussian_kernel(features(seed=1)), gaussian_kernel(features(seed=2))
    torch.testing.assert_close(nhsic(u, v), nhsic(v, u))


def test_collapsed_features_hold_all_of_the_label():
    onehot = labels(120, 10)
    collapsed = onehot @ features(10, 16)
    value = nhsic(gaussian_kernel(collapsed), linear_kernel(onehot))
    assert value.item() == pytest.approx(9, rel=0.05)


def test_uncentred_labels_change_nothing():
    z, onehot = gaussian_kernel(features(60)), labels(60, 10)
    value = nhsic(z, linear_kernel(onehot))
    uncentred = numpy_nhsic(z.numpy(), (onehot @ onehot.T).numpy())
    assert value.item() == pytest.approx(uncentred, abs=1e-4)


def test_shuffled_pairing_is_lower_than_the_true_one():
    onehot = labels(120, 10)
    z = gaussian_kernel(onehot @ features(10, 16))
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    true = nhsic(z, linear_kernel(onehot))
    assert nhsic(z, linear_kernel(onehot[order])) < 0.2 * true


@pytest.mark.parametrize('squared', [True, False])
def test_nhsic_can_be_trained(squared):
    v = gaussian_kernel(features(8, 3, seed=2))

    def value(feats):
        return nhsic(gaussian_kernel(feats, 0.5, squared), v, eps=1e-2)

    u = features(8, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(value, u)


def test_half_precision_is_computed_in_float32():
    assert gaussian_kernel(features().bfloat16()).dtype == torch.float32


def test_cka_is_its_definition():
    u, v = features(seed=1), features(d=3, seed=2)
    x, y = (feats - feats.mean(0) for feats in (u, v))
    expected = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    value = cka(linear_kernel(u), linear_kernel(v))
    torch.testing.assert_close(value, expected)


def test_cka_of_a_rotated_scaled_copy_is_one():
    u = features()
    rotation = torch.linalg.qr(features(7, 7, seed=3)).Q
    value = cka(linear_kernel(u), linear_kernel(3 * u @ rotation + 1))
    assert value.item() == pytest.approx(1)


def test_unbiased_cka_of_independent_features_is_zero():
    u, v = features(40, 4000, seed=1), features(40, 4000, seed=2)
    kernels = linear_kernel(u), linear_kernel(v)
    assert cka(*kernels) > 0.9
    assert abs(cka(*kernels, unbiased=True)) < 0.1
    assert cka(kernels[0], kernels[0], unbiased=True).item() == 1


def test_unbiased_hsic_is_its_mean_over_different_samples():
    """Over all 4 samples i, j, q, r that differ, as HSIC is defined."""
    m = 6
    k, n = linear_kernel(features(m, seed=1)), linear_kernel(features(m, 3))

    def definition(k, n):
        terms = [
            k[i, j] * (n[i, j] + n[q, r] - 2 * n[i, q])
            for i, j, q, r in permutations(range(m), 4)
        ]
        return sum(terms)

    expected = definition(k, n) / (definition(k, k) * definition(n, n)) ** 0.5
    torch.testing.assert_close(cka(k, n, unbiased=True), expected)


def test_cka_of_a_constant_is_undefined():
    assert cka(
        linear_kernel(features() * 0), linear_kernel(features())
    ).isnan()
