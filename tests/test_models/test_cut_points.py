import pytest
import torch
from torch import nn

from mmlocal.models.calls import Calls
from mmlocal.models.cut_forward import cut_forward
from mmlocal.models.cut_points import CutPoints, summarize


def test_blocks_of_a_resnet(helpers):
    backbone = helpers.build(
        {'type': 'ResNet', 'depth': 18, '_scope_': 'mmpretrain'}
    )
    points = CutPoints(backbone, (3, 64, 64))
    names = [f'layer{s}.{b}' for s in range(1, 5) for b in range(2)]
    assert [cut.name for cut in points.blocks()] == names
    assert [cut.depth for cut in points.blocks()] == list(range(1, 17, 2))
    assert points.depth == 17
    assert 'a path goes around' in points.rejected['layer2.1.conv2']


def test_summarize():
    names = ['a.0', 'a.1', 'a.2', 'b.0', 'b.1', 'c']
    assert summarize(names) == 'a.0 .. a.2, b.0, b.1, c'


class Tied(nn.Module):
    """One weight on both sides, one layer called twice, and a dead end."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = nn.Conv2d(4, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.twice = nn.ReLU()
        self.last = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.dead_end = nn.Conv2d(4, 4, 1)
        self.last.weight = self.first.weight

    def forward(self, x):
        x = self.twice(self.first(self.stem(x)))
        self.dead_end(x)
        return self.last(self.twice(self.second(x)))


def test_why_a_submodule_is_no_cut_point():
    points = CutPoints(Tied(), (3, 8, 8))
    assert set(points.valid) == {'stem', 'first'}
    for name, reason in {
        'second': 'a weight is used on both sides',
        'last': 'a weight is used on both sides',
        'twice': 'calls it more than once',
        'unused': 'does not call it',
        'dead_end': 'no output of the backbone depends on it',
    }.items():
        assert reason in points.rejected[name], name


class CachedBias(nn.Conv2d):
    """Has its bias ready in eval mode, as the attention of LeViT."""

    def __init__(self):
        super().__init__(4, 4, 1)
        self.table = nn.Parameter(torch.zeros(4, 1, 1))

    def train(self, mode=True):
        super().train(mode)
        self.kept = None if mode else self.table.detach()
        return self

    def forward(self, x):
        return super().forward(x) + (
            self.table if self.training else self.kept
        )


def test_weights_that_a_run_in_eval_mode_does_not_reach():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CachedBias(), CachedBias())
    weights = CutPoints(net, (3, 8, 8)).modules(['2']).weights
    assert (weights['1.table'], weights['2.table']) == (0, 1)
    assert 'kept' not in vars(net[1])


class TwoInputs(nn.Module):
    """A block that takes two maps, and one that takes them in a list."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.add = Add()
        self.join = Join()

    def forward(self, x):
        x = self.stem(x)
        return self.join([self.add(x, x), x])


class Add(nn.Module):
    def forward(self, a, b):
        return a + b


class Join(nn.Module):
    def forward(self, maps):
        return torch.cat(maps, 1)


def test_of_two_tensors_a_head_reads_what_the_other_leads_to():
    points = CutPoints(TwoInputs(), (3, 8, 8))
    add, join = points.valid['add'].crossing, points.valid['join'].crossing
    assert add.reads == ((0, 0),)
    assert [skip.path for skip in add.skips] == [(0, 1), (0, 0, 1)]
    # Of a list it reads all.
    assert join.reads == ((0, 0, 0), (0, 0, 1)) and not join.skips
    assert points.valid['join'].boundary.channels == 8


def test_input_that_does_not_fit_names_the_key():
    with pytest.raises(ValueError, match='Set `input_shape`'):
        CutPoints(Tied(), (1, 8, 8))


class Biased(nn.Module):
    """A layer that also takes what a first one made."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x, bias=None):
        return self.conv(x) + bias


class Masked(nn.Module):
    """Insists on a mask, which may be None, and calls by name with one."""

    def __init__(self):
        super().__init__()
        self.mask_token = nn.Parameter(torch.ones(1))
        self.stem = nn.Conv2d(3, 4, 1)
        self.bias = nn.Conv2d(4, 4, 1)
        self.layers = nn.ModuleList(Biased() for _ in range(3))

    def forward(self, x, mask, scale=1.0):
        x = self.stem(x) * scale
        if mask is not None:
            x = x * mask + self.mask_token * (1 - mask)
        bias = self.bias(x)
        for layer in self.layers:
            x = layer(x, bias) if mask is None else layer(x=x, bias=bias)
        return x


def test_what_a_forward_insists_on_is_left_out():
    """As of the backbones of masked image modeling; calls may differ then."""
    net = Masked()
    points = CutPoints(net, (3, 8, 8))
    (cut,) = points.check(['layers.1'])
    assert [skip.module for skip in cut.crossing.skips] == [
        'layers.1',
        'layers.2',
    ]
    assert points.modules(['layers.1']).owner('mask_token') == 0
    assert Calls(net, (3, 8, 8)).calls[0].name == 'stem'
    images, mask = torch.randn(2, 3, 8, 8), torch.ones(1)
    out = cut_forward(
        net,
        [cut.crossing],
        (images, mask),
        lambda index, feat: feat.detach(),
    )
    out.sum().backward()
    before = [net.stem, net.bias, net.layers[0].conv]
    assert all(layer.weight.grad is None for layer in before)
    assert all(layer.conv.weight.grad.any() for layer in net.layers[1:])
