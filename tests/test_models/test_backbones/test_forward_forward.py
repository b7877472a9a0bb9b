"""The nets of Forward-Forward."""

import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.backbones import FFMLP, FFConvNet


def count(net):
    return sum(weight.numel() for weight in net.parameters())


def test_parameters():
    assert count(FFConvNet()) == 1_199_882  # 1.20 M, published
    widths = [784, 1000, 1000, 1000, 1000, 10]
    pairs = zip(widths, widths[1:], strict=False)
    assert count(FFMLP()) == sum(a * b + b for a, b in pairs)


def length(x):
    return x.square().sum(tuple(range(1, x.ndim)), keepdim=True).sqrt() + 1e-4


@pytest.mark.parametrize('scale', [1, 1e-6])
def test_mlp(scale):
    net = FFMLP(12, (5, 3))
    images = scale * torch.randn(4, 3, 2, 2)
    x = images.flatten(1)
    for layer in net.layers:
        weight, bias = layer.layer.weight, layer.layer.bias
        x = torch.relu(x / length(x) @ weight.T + bias)
    (found,) = net(images)
    assert found.shape == (4, 3, 1, 1)
    torch.testing.assert_close(found[:, :, 0, 0], x)


def test_convnet():
    net = FFConvNet(2, 8, (3, 4), (6, 5))
    images = torch.randn(3, 2, 8, 8)
    convs, linears = net.layers[:2], net.layers[2:]
    x = images
    for layer in convs:
        x = F.conv2d(x / length(x), layer.layer.weight, layer.layer.bias)
        x = x.relu()
    assert x.shape == (3, 4, 4, 4)
    x = F.max_pool2d(x, 2).flatten(1)
    for layer in linears:
        x = F.linear(x / length(x), layer.layer.weight, layer.layer.bias)
        x = x.relu()
    (found,) = net(images)
    torch.testing.assert_close(found.flatten(1), x)
