"""What crosses a cut, on nets small enough to look at."""

import pytest
import torch
from torch import nn

from mmlocal.models.cut_points import CutPoints
from mmlocal.partition import EachBlock, EqualDepth


def conv(c_in, c_out, stride=1):
    return nn.Conv2d(c_in, c_out, 3, stride, 1)


class Up(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.conv = conv(8, 4)

    def forward(self, skip, x):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNet(nn.Module):
    """A decoder that takes what the encoder put out."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(
            [conv(3, 4), conv(4, 4, 2), conv(4, 4, 2)]
        )
        self.decoder = nn.ModuleList([Up(), Up()])

    def forward(self, x):
        feats = [x]
        for layer in self.encoder:
            feats.append(layer(feats[-1]))
        x = feats.pop()
        for layer in self.decoder:
            x = layer(feats.pop(), x)
        return x


class Branches(nn.Module):
    """Two branches; one has a layer that the other's start does not see."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 4)
        self.left = conv(4, 4)
        self.right = nn.ModuleList([conv(4, 4), conv(4, 4)])
        self.join = nn.ModuleList([Up()])

    def forward(self, x):
        x = self.stem(x)
        skip, right = self.left(x), x
        for layer in self.right:
            right = layer(right)
        return self.join[0](skip, right[..., ::2, ::2])


def skips_of(points, name):
    found = points.valid[name].crossing.skips
    return [(skip.module, skip.path) for skip in found]


def test_skips_go_on_at_each_later_place():
    points = CutPoints(UNet(), (3, 16, 16))
    first, second = ('decoder.0', (0, 0)), ('decoder.1', (0, 0))
    assert skips_of(points, 'encoder.1') == [second]
    assert skips_of(points, 'encoder.2') == [first, second]
    # The skip that the cut submodule itself takes is one, too.
    assert skips_of(points, 'decoder.0') == [first, second]
    assert points.valid['decoder.0'].crossing.reads == ((0, 1),)
    assert skips_of(points, 'decoder.1') == [second]
    # There the skip has been taken already.
    assert 'a path goes around' in points.rejected['decoder.0.up']
    assert skips_of(points, 'decoder.0.conv') == [second]


def test_modules_without_any_single_tensor_between():
    points = CutPoints(UNet(), (3, 16, 16))
    names = ['encoder.1', 'encoder.2', 'decoder.0', 'decoder.1']
    assert [cut.name for cut in points.blocks()] == names
    assert EqualDepth(2)(points) == ['decoder.0']
    assert EqualDepth(5)(points) == names


def test_what_no_loss_would_reach_is_named():
    points = CutPoints(Branches(), (3, 16, 16))
    reason = points.rejected['right.1']
    assert "would reach 'left'" in reason
    with pytest.raises(
        ValueError, match="reach 'left'.*cut before: left, join.0"
    ):
        points.check(['right.1'])
    # Both branches end there, and a head reads both.
    assert points.valid['join.0'].crossing.reads == ((0, 0), (0, 1))
    assert points.valid['join.0'].boundary.channels == 8


def test_a_branch_that_takes_the_image_stays_whole():
    class Two(Branches):
        def forward(self, x):
            skip = self.left(self.stem(x))
            right = self.right[0](torch.cat([x, x[:, :1]], 1))
            right = self.right[1](right)
            return self.join[0](skip, right[..., ::2, ::2])

    points = CutPoints(Two(), (3, 16, 16))
    assert points.valid['left'].crossing.single
    crossing = points.valid['right.1'].crossing
    assert crossing.single and not crossing.complete
    assert 'right.1' not in [cut.name for cut in points.blocks()]
    parts = points.modules(['right.1'])
    assert parts.weights['stem.weight'] == parts.weights['left.weight'] == 1
    assert parts.weights['right.0.weight'] == 0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(3, 3)

    def forward(self, x):
        return self.conv(x).relu()


class Named(nn.Module):
    """No list of modules."""

    def __init__(self):
        super().__init__()
        for i in range(4):
            setattr(self, f'block{i}', Block())

    def forward(self, x):
        for i in range(4):
            x = getattr(self, f'block{i}')(x)
        return x


def test_blocks_that_are_no_list():
    points = CutPoints(Named(), (3, 8, 8))
    names = ['block1', 'block2', 'block3']
    assert EqualDepth(4)(points) == names
    assert [cut.name for cut in points.blocks()] == names


class Nowhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize('partition', [EqualDepth(2), EachBlock()])
def test_a_backbone_without_any_place(partition):
    points = CutPoints(nn.Sequential(Nowhere()), (3, 8, 8))
    with pytest.raises(ValueError, match='none of its submodules'):
        partition(points)
    with pytest.raises(ValueError, match='none of its submodules'):
        points.check(['layer1'])


class Asks(nn.Conv2d):
    """Its eval mode reads what its ``train`` prepares."""

    def train(self, mode=True):
        super().train(mode)
        if mode:
            vars(self).pop('halved', None)
        else:
            self.halved = self.weight / 2

    def forward(self, x):
        weight = self.weight if self.training else self.halved
        return nn.functional.conv2d(x, weight, padding=1)


def test_train_with_a_side_effect():
    net = nn.Sequential(conv(3, 3), Asks(3, 3, 3), conv(3, 3))
    points = CutPoints(net, (3, 8, 8))
    assert set(points.valid) == {'0', '1', '2'}
    assert net[1].training and not hasattr(net[1], 'halved')


class Broken(nn.Module):
    def forward(self, x):
        return self.nothing(x)


def test_the_input_is_not_blamed_for_another_error():
    with pytest.raises(ValueError, match="no attribute 'nothing'") as error:
        CutPoints(Broken(), (3, 8, 8))
    assert 'input_shape' not in str(error.value)


class Decides(nn.Module):
    """Control flow that depends on values."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([conv(3, 3), conv(3, 3)])

    def forward(self, x):
        x = self.layers[0](x)
        if x.mean() > 0:
            x = x * 2
        return self.layers[1](x)


def test_values_may_decide():
    points = CutPoints(Decides(), (3, 8, 8))
    assert [cut.name for cut in points.blocks()] == ['layers.1']
