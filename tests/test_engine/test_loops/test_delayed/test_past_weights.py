"""Copies of weights that stand in for them in a later backward."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmlocal.engine.loops.delayed.past_weights import PastWeights, saving


@pytest.fixture
def net():
    """A convolution, and a layer of which autograd saves a transpose."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5)
    )


def move(net):
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(-2)


def grads(net):
    return [weight.grad for weight in net.parameters()]


def test_a_graph_that_outlives_an_update(net):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    other, twin = x.detach().clone().requires_grad_(), deepcopy(net)
    twin(other).square().sum().backward()
    held = {}
    with saving(PastWeights(net.parameters()), held):
        out = net(x).square().sum()
    move(net)
    out.backward()
    assert torch.equal(x.grad, other.grad)
    assert all(map(torch.equal, grads(net), grads(twin)))
    # The batch, and what each layer but the last returns.
    assert sum(held.values()) >= 4 * (2 * 3 * 64 + 2 * 2 * 4 * 36)
    assert x.untyped_storage().data_ptr() in held


def test_restored_for_a_while(net):
    past, before = PastWeights(net.parameters()), deepcopy(net.state_dict())
    move(net)
    after = deepcopy(net.state_dict())
    with past.restored():
        for name, weight in net.named_parameters():
            assert torch.equal(weight, before[name])
        with pytest.raises(KeyError), past.restored():
            raise KeyError
        net(torch.randn(2, 3, 8, 8)).sum().backward()
    for name, weight in net.named_parameters():
        assert torch.equal(weight, after[name])
        assert weight.grad is not None
    size = sum(weight.nbytes for weight in net.parameters())
    assert sum(past.storages().values()) == size


def test_a_view_of_a_weight(net):
    weight = net[3].weight
    past = PastWeights([weight])
    expected = weight.detach().clone()
    move(net)
    assert torch.equal(past.find(weight.t()), expected.t())
    assert torch.equal(past.find(weight[2:, 1::2]), expected[2:, 1::2])
    assert past.find(net[0].weight) is None


def test_features_that_are_changed_in_place(net):
    """Torch does not look where saved tensors are packed."""
    x = torch.randn(2, 3, 8, 8)
    with saving(PastWeights(net.parameters()), {}):
        out = net[1](net[0](x)).sigmoid()
    out.detach().zero_()
    with pytest.raises(RuntimeError, match='inplace=False'):
        out.sum().backward()
