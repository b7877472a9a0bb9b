import torch
from torch.nn import functional as F

from mmlocal.models.cut_points import CutPoints
from mmlocal.registry import MODELS


def build(**kwargs):
    return MODELS.build({'type': 'mmlocal.DNIConvNet', **kwargs})


def test_published_sizes():
    net = build()
    expected = 128 * (75 + 1 + 2) + 2 * 128 * (3200 + 1 + 2)
    assert sum(p.numel() for p in net.parameters()) == expected
    points = CutPoints(net, (3, 32, 32))
    assert [cut.name for cut in points.blocks()] == [
        'features.1',
        'features.2',
    ]
    x, sides = torch.randn(2, 3, 32, 32), []
    for block in net.features:
        x = block(x)
        sides.append(tuple(x.shape[1:]))
    assert sides == [(128, 10, 10), (128, 3, 3), (128, 1, 1)]


def test_layers():
    net = build(channels=4).eval()
    x = torch.randn(2, 3, 32, 32)
    (feat,) = net(x)
    for index, pool in enumerate((F.max_pool2d, F.avg_pool2d, F.avg_pool2d)):
        block = net.features[index]
        x = F.conv2d(x, block.conv.weight, block.conv.bias, padding=2)
        x = pool(block.bn(x).relu(), 3, 3)
    torch.testing.assert_close(feat, x)
