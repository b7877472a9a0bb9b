"""How features lie, told by the dimensions of the network's input."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmlocal.models.boundary import Boundary
from mmlocal.models.cut_points import CutPoints
from mmlocal.models.local_heads import GreedyHead


def signal_net(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(1, channels, 10, stride=5, padding=2),
        nn.Sequential(nn.ReLU(), nn.Conv1d(channels, channels, 4, 2, 1)),
        nn.Sequential(nn.ReLU(), nn.Conv1d(channels, channels, 4, 2, 1)),
    )


@pytest.mark.parametrize('channels', [256, 512])
def test_signals_are_sequences(channels):
    """Whatever the number of channels: 256 would be a token grid of 16x16."""
    points = CutPoints(signal_net(channels), (1, 4095))
    cuts = [points.valid[name].boundary for name in ('1', '2')]
    assert cuts == [
        Boundary('1', channels, 5, 'sequence'),
        Boundary('2', channels, 10, 'sequence'),
    ]
    assert points.end == Boundary('end', channels, 20, 'sequence')


@pytest.mark.parametrize(
    ('layers', 'stride'),
    [
        # 224, 112, 56, 28, 14, 7, 4.
        ([nn.Conv2d(3, 3, 3, stride=2, padding=1)] * 6, 64),
        # 224, 55, 27, 13, 6, as AlexNet.
        ([nn.Conv2d(3, 3, 11, 4, 2)] + [nn.MaxPool2d(3, 2)] * 3, 32),
        # 224, 113, 57, 29, 15.
        ([nn.Conv2d(3, 3, 2, stride=2, padding=1)] * 4, 16),
        # Not every stride is a power of two.
        ([nn.Conv2d(3, 3, 14, stride=14)], 14),
        ([nn.Conv2d(3, 3, 7, stride=7), nn.MaxPool2d(4)], 28),
        ([nn.Conv2d(3, 3, 3, stride=3)], 3),
        ([nn.AdaptiveAvgPool2d(1)], 224),
    ],
)
def test_strides_of_maps_that_are_rounded(layers, stride):
    net = nn.Sequential(*map(deepcopy, layers), nn.Conv2d(3, 8, 1))
    points = CutPoints(net, (3, 224, 224))
    assert points.end.stride == stride


class Patches(nn.Module):
    """Cuts an image into quarters, in the batch axis."""

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.reshape(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(4 * n, c, h // 2, w // 2)


def test_patches_in_the_batch_axis():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        Patches(),
        nn.Conv2d(8, 8, 2, stride=2),
        nn.Conv2d(8, 16, 2, stride=2),
    )
    points = CutPoints(net, (3, 32, 32))
    assert points.valid['1'].boundary == Boundary('1', 8, 1)
    assert points.valid['3'].boundary == Boundary('3', 8, 2, patches=4)
    assert points.end == Boundary('end', 16, 4, patches=4)


def test_a_sequence_is_no_map():
    boundary = Boundary('layers.1', 8, 10, 'sequence')
    with pytest.raises(ValueError, match='layers.1.*sequence'):
        boundary.to_map(torch.zeros(2, 8, 100), (1, 1000))


def test_tokens_go_back_on_their_grid():
    boundary = Boundary('layers.1', 2, 4, 'tokens')
    grid = torch.randn(3, 2, 4, 6)
    tokens = torch.cat([torch.zeros(3, 1, 2), grid.flatten(2).mT], dim=1)
    assert torch.equal(boundary.to_map(tokens, (16, 24)), grid)


def test_vectors():
    """Behind a flattening; a map of one cell for heads that read maps."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 16 * 16, 5),
        nn.Sequential(nn.ReLU(), nn.Linear(5, 7)),
    )
    points = CutPoints(net, (3, 32, 32))
    assert points.valid['1'].boundary == Boundary('1', 8, 2)
    assert points.valid['3'].boundary == Boundary('3', 5, 32, 'vector')
    assert points.end == Boundary('end', 7, 32, 'vector')
    assert [points.valid[n].boundary.side for n in '13'] == [16, 1]
    feat = torch.randn(2, 7)
    image_size = (64, 48)
    assert points.end.feature_size(image_size) == (1, 1)
    as_map = points.end.to_map(feat, image_size)
    assert torch.equal(as_map, feat[:, :, None, None])
    points = CutPoints(nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten()), (1, 6))
    assert points.end == Boundary('end', 12, 6, 'vector')


def test_heads_read_vectors():
    boundary = Boundary('3', 5, 32, 'vector')
    inputs, feat = torch.zeros(2, 3, 32, 32), torch.randn(2, 5)
    for net in ('linear', '0c2f', '1c1f'):
        head = GreedyHead(boundary, net, num_classes=4)
        assert head.predict(feat, inputs)['logits'].shape == (2, 4)
