"""Bounds of mutual information, against their equations."""

import math

import pytest
import torch

from mmlocal.analysis.mine.bounds import NWJ, DonskerVaradhan, InfoNCE
from mmlocal.analysis.mine.statistics_net import (
    SeparableCritic,
    StatisticsNet,
)
from mmlocal.analysis.seeded import seeded

JOINT = torch.tensor([0.3, -1.0, 2.0])
MARGINAL = torch.tensor([[0.1, 0.5], [-2.0, 1.0], [0.0, 0.7]])


def test_values_are_the_equations():
    t, e = JOINT, MARGINAL.exp()
    expected = t.mean() - e.mean().log()
    torch.testing.assert_close(
        DonskerVaradhan().value(JOINT, MARGINAL), expected
    )
    expected = t.mean() - (MARGINAL - 1).exp().mean()
    torch.testing.assert_close(NWJ().value(JOINT, MARGINAL), expected)
    chance = (t.exp() + e.sum(1)) / 3
    expected = (t.exp() / chance).log().mean()
    torch.testing.assert_close(InfoNCE().value(JOINT, MARGINAL), expected)


def test_gradient_of_the_corrected_loss():
    """-(grad mean t - grad mean e / m), with m from three batches."""
    net = StatisticsNet((3, 2), seeded(0), hidden=8)
    params = list(net.parameters())
    bound = DonskerVaradhan(rate=0.01)
    mean = 1.0
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        a = torch.randn(20, 3, generator=generator)
        b = torch.randn(20, 2, generator=generator)
        # Scores of some size, so that the correction matters.
        joint, marginal = (5 * each for each in net.scores(a, b))
        loss = bound.loss(joint, marginal)
        found = torch.autograd.grad(loss, params, retain_graph=True)
        e = marginal.exp().mean()
        mean = 0.99 * mean + 0.01 * e.item()
        of_t = torch.autograd.grad(joint.mean(), params, retain_graph=True)
        of_e = torch.autograd.grad(e, params)
        for own, t, m in zip(found, of_t, of_e, strict=True):
            torch.testing.assert_close(own, m / mean - t)
    assert abs(mean - 1) > 1e-4


def test_the_running_mean_has_no_history():
    net = StatisticsNet((3, 2), seeded(0), hidden=8)
    bound = DonskerVaradhan()
    for _ in range(2):
        bound.loss(*net.scores(torch.ones(4, 3), torch.ones(4, 2)))
    assert not bound.log_mean.requires_grad


def test_nothing_overflows():
    huge = MARGINAL + 1000
    bound = DonskerVaradhan()
    value = bound.value(JOINT + 1000, huge)
    torch.testing.assert_close(
        value, bound.value(JOINT, MARGINAL), atol=1e-3, rtol=0
    )
    scores = huge.clone().requires_grad_()
    loss = bound.loss(JOINT + 1000, scores)
    loss.backward()
    assert scores.grad.isfinite().all()
    # The first e^1000 makes up nearly all of the mean: e / m is 1 / rate.
    torch.testing.assert_close(
        scores.grad.sum(), torch.tensor(100.0), rtol=1e-3, atol=0
    )


def test_a_perfect_critic_reaches_the_ceiling_of_infonce():
    marginal = torch.full((6, 5), -100.0)
    value = InfoNCE().value(torch.full((6,), 100.0), marginal)
    assert value.item() == pytest.approx(math.log(6), abs=1e-4)
    assert InfoNCE.ceiling(1000, 5) == pytest.approx(math.log(6))
    assert DonskerVaradhan.ceiling(1000, 5) == pytest.approx(math.log(1000))


def test_published_sizes():
    """X 3072 and T 512; T 512 and Y 100."""
    for dims, count in ((3072, 512), 5_771_265), ((512, 100), 2_727_937):
        net = StatisticsNet(dims, seeded(0), init_std=0.02)
        assert sum(p.numel() for p in net.parameters()) == count
    first, last = net.hidden[0], net.last
    assert abs(first.weight.std() - 0.02) < 1e-3
    assert not first.bias.any()
    assert last.bias.any()
    assert last.weight.abs().max() <= 1 / 32


@pytest.mark.parametrize('shifts', [1, 3, 99])
def test_other_partners_are_never_the_own(shifts):
    net = StatisticsNet((3, 2), seeded(0), hidden=8)
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 3, generator=generator)
    b = torch.randn(5, 2, generator=generator)
    joint, marginal = net.scores(a, b, shifts)
    assert marginal.shape == (5, min(shifts, 4))
    table = net(a.repeat_interleave(5, 0), b.repeat(5, 1)).view(5, 5)
    torch.testing.assert_close(joint, table.diagonal())
    for i in range(5):
        for k in range(marginal.shape[1]):
            expected = table[i, (i + k + 1) % 5]
            torch.testing.assert_close(marginal[i, k], expected)


def test_the_net_reads_both_sides_one_after_the_other():
    net = StatisticsNet((3, 2), seeded(0), hidden=8)
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    feat = torch.cat([a, b], 1)
    for layer in net.hidden:
        feat = layer(feat).relu()
    torch.testing.assert_close(net(a, b), net.last(feat)[:, 0])


def test_a_separable_critic_scores_all_pairs():
    net = SeparableCritic((3, 2), seeded(0), hidden=8)
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    joint, marginal = net.scores(a, b)
    table = net.nets[0](a) @ net.nets[1](b).T
    torch.testing.assert_close(joint, table.diagonal())
    for i in range(4):
        others = [table[i, j] for j in range(4) if j != i]
        torch.testing.assert_close(marginal[i], torch.stack(others))
