"""The nets of Signal Propagation."""

import pytest
import torch
from torch import nn

from mmlocal.models.backbones import (
    SigPropConvNet,
    SigPropResNet,
    SigPropVGG,
)


def count(net):
    return sum(weight.numel() for weight in net.parameters())


def shapes(net, side=32):
    x = torch.zeros(2, 3, side, side)
    found = []
    for layer in net.layers:
        x = layer(x)
        found.append(tuple(x.shape[1:]))
    return found


def test_toy_cnn():
    assert shapes(SigPropConvNet()) == [
        (32, 32, 32),
        (32, 30, 30),
        (64, 28, 28),
        (128, 1, 1),
    ]
    # (size - 4)^2 * 16 inputs of the linear layer.
    assert SigPropConvNet().layers[3][2].in_features == 28**2 * 16


@pytest.mark.parametrize(('depth', 'blocks'), [(18, 8), (34, 16), (50, 16)])
def test_resnet(depth, blocks):
    net = SigPropResNet(depth)
    assert len(net.layers) == blocks + 1
    for layer in net.layers[1:]:
        _, norm, act, dropout = layer
        assert isinstance(norm, nn.InstanceNorm2d) and norm.affine
        assert isinstance(act, nn.LeakyReLU) and dropout.p == 0.2
    channels = 2048 if depth == 50 else 512
    if depth != 34:
        assert shapes(net)[-1] == (channels, 4, 4)


def test_a_narrow_resnet():
    widths = [shape[0] for shape in shapes(SigPropResNet(18, base_channels=8))]
    assert widths == [8, 8, 8, 16, 16, 32, 32, 64, 64]


def test_resnet18_has_the_weights_of_torchvision():
    """But for the stem, the classifier and the norms."""
    import torchvision

    net, other = SigPropResNet(18), torchvision.models.resnet18()
    stem = count(other.conv1) + count(other.bn1) + count(other.fc)
    own = count(net.layers[0]) + sum(count(b[1]) for b in net.layers[1:])
    assert count(net) - own == count(other) - stem


@pytest.mark.parametrize(
    ('arch', 'convs', 'side'),
    [
        ('vgg6b', 4, 2),
        ('vgg8b', 6, 2),
        ('vgg11b', 9, 2),
        ('vgg11', 8, 1),
        ('vgg13', 10, 1),
        ('vgg16', 13, 1),
    ],
)
def test_vgg(arch, convs, side):
    with torch.device('meta'):
        net = SigPropVGG(arch)
    modules = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(modules) == convs + 1  # and that of the image
    assert modules[1].in_channels == modules[1].out_channels
    (linear,) = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert linear.in_features == 512 * side**2
    assert linear.out_features == 1024


def test_vgg8b_runs():
    found = shapes(SigPropVGG('vgg8b'))
    assert found[0] == (128, 32, 32) and found[-1] == (1024, 1, 1)


def test_mistakes():
    with pytest.raises(ValueError, match='depth=20 is unknown'):
        SigPropResNet(20)
    with pytest.raises(ValueError, match="arch='vgg19' is unknown"):
        SigPropVGG('vgg19')
