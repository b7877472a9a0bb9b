"""The loss of Forward-Forward."""

import math

import pytest
import torch

from mmlocal.models.local_heads import Boundary, FFHead
from mmlocal.models.local_heads.forward_forward import goodness
from mmlocal.step import LocalStep, activate

BOUNDARY = Boundary('layers.1', 3, 1)


def test_loss_is_the_formula():
    feat = torch.randn(6, 3, 2, 2, requires_grad=True)
    head = FFHead(BOUNDARY, num_classes=3, theta=1.5)
    losses = head.loss(feat, None, None)
    total, means = 0.0, [0.0, 0.0]
    for row, sample in enumerate(feat.tolist()):
        squares = [x * x for map_ in sample for line in map_ for x in line]
        good = sum(squares) / len(squares)
        margin = 1.5 - good if row < 3 else good - 1.5
        total += math.log(1 + math.exp(margin)) / 6
        means[row // 3] += good / 3
    assert losses['loss_ff'].item() == pytest.approx(total, rel=1e-6)
    assert losses['goodness_pos'].item() == pytest.approx(means[0], rel=1e-6)
    assert losses['goodness_neg'].item() == pytest.approx(means[1], rel=1e-6)


def test_published_piecewise_form():
    """log(1 + exp(x)) for small x, x + log(1 + exp(-x)) for large ones."""
    feat = torch.linspace(0, 20, 40).view(40, 1, 1, 1)
    found = FFHead(BOUNDARY, 3).loss(feat, None, None)['loss_ff']
    good = feat.flatten().double().square()
    margins = torch.cat([2 - good[:20], good[20:] - 2])
    stable = margins.clamp(min=0) + (-margins.abs()).exp().log1p()
    assert found.item() == pytest.approx(stable.mean().item(), rel=1e-6)


def test_goodness_in_half_precision():
    feat = torch.full((2, 1, 1, 1), 300.0, dtype=torch.float16)
    assert goodness(feat).tolist() == [9e4, 9e4]  # inf in float16


def test_predicts_the_goodness_of_each_label():
    feat = torch.randn(6, 3, 2, 2)
    logits = FFHead(BOUNDARY, 3).predict(feat, None)['logits']
    assert logits.shape == (2, 3)
    assert torch.equal(logits[1, 2], goodness(feat)[5])


def test_passes_on_as_other_heads_without_recompute():
    feat = torch.randn(2, 3, 1, 1, requires_grad=True) * 1
    passed = FFHead(BOUNDARY, 3, recompute=False).pass_on(feat)
    assert torch.equal(passed, feat) and not passed.requires_grad


def test_recompute_needs_updates_by_module():
    with (
        activate(LocalStep()),
        pytest.raises(ValueError, match="step='module'.*recompute=False"),
    ):
        FFHead(BOUNDARY, 3).pass_on(torch.zeros(2, 3, 1, 1))
