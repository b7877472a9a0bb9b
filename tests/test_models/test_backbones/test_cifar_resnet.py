import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmlocal.models.backbones.cifar_resnet import CIFARResNet
from mmlocal.models.cut_points import CutPoints
from mmlocal.partition.published import PUBLISHED_SPLITS
from mmlocal.registry import MODELS


def params_per_module(depth, boundaries):
    """Parameters between cuts; the classifier counts in the last module."""
    with torch.device('meta'):
        net = CIFARResNet(depth)
    counts, index = [0] * (len(boundaries) + 1), 0
    for name, param in net.named_parameters():
        if index < len(boundaries) and name.startswith(
            f'{boundaries[index]}.'
        ):
            index += 1
        counts[index] += param.numel()
    assert index == len(boundaries)
    counts[-1] += 64 * 10 + 10
    return counts


@pytest.mark.parametrize(('depth', 'total'), [(32, 466_906), (110, 1_730_714)])
def test_parameters(depth, total):
    assert params_per_module(depth, []) == [total]


@pytest.mark.parametrize(
    ('depth', 'boundaries', 'expected'),
    [
        (32, ['layer2.2'], [56_912, 409_994]),
        (
            32,
            ['layer1.3', 'layer2.2', 'layer3.1'],
            [14_480, 42_432, 113_408, 296_586],
        ),
        (110, ['layer2.9'], [247_568, 1_483_146]),
        (
            110,
            ['layer1.12', 'layer2.8', 'layer3.4'],
            [56_528, 172_480, 465_280, 1_036_426],
        ),
        (110, ['layer1.15'], [70_544, 1_660_170]),
        (110, ['layer1.10', 'layer2.3'], [47_184, 89_024, 1_594_506]),
        (110, ['layer1.9', 'layer2.2'], [42_512, 75_136, 1_613_066]),
        (
            110,
            ['layer1.7', 'layer1.15', 'layer2.9'],
            [33_168, 37_376, 177_024, 1_483_146],
        ),
    ],
)
def test_parameters_of_published_modules(depth, boundaries, expected):
    assert params_per_module(depth, boundaries) == expected


@pytest.mark.parametrize(
    ('depth', 'macs'), [(32, 69_124_736), (110, 253_149_824)]
)
def test_macs(depth, macs):
    with torch.device('meta'):
        net, fc = CIFARResNet(depth), nn.Linear(64, 10)
        with FlopCounterMode(display=False) as counter:
            fc(net(torch.empty(2, 3, 32, 32))[-1].mean((2, 3)))
    assert counter.get_total_flops() / 2 / 2 == macs


@pytest.mark.parametrize(('side', 'out'), [(32, 8), (96, 24), (33, 9)])
def test_output(side, out):
    net = MODELS.build({'type': 'mmlocal.CIFARResNet', 'depth': 20})
    (feat,) = net(torch.randn(2, 3, side, side))
    assert feat.shape == (2, 64, out, out)


def test_names():
    keys = {key.rpartition('.')[0] for key in CIFARResNet(20).state_dict()}
    assert {'conv1', 'bn1', 'layer2.0.downsample.1', 'layer3.2.bn2'} <= keys
    assert 'layer1.0.downsample.0' not in keys


@pytest.mark.parametrize('depth', [2, 18, 31, 34])
def test_bad_depth(depth):
    with pytest.raises(ValueError, match=f'depth={depth} is not 6n'):
        CIFARResNet(depth)


def test_dropout_between_the_convolutions():
    net = CIFARResNet(8, drop_rate=0.5)
    block = net.layer1[0]
    seen = []
    block.conv2.register_forward_hook(
        lambda module, args, out: seen.append(args[0])
    )
    block(torch.rand(2, 16, 8, 8))
    dropped = (seen[0] == 0).float().mean()
    net.eval()(torch.rand(2, 3, 8, 8))
    assert dropped > (seen[1] == 0).float().mean() + 0.1


def test_initialization():
    net = CIFARResNet(20, in_channels=1)
    net.init_weights()
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2_000:
            fan_out = module.out_channels * module.weight[0, 0].numel()
            std = module.weight.std().item()
            assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_padded_shortcuts():
    """Option A: a pooling over one place with stride 2, and zeros."""
    net = CIFARResNet(20, shortcut='pad').eval()
    block = net.layer2[0]
    x = torch.randn(2, 16, 9, 9)
    half = nn.AvgPool2d(1, 2)(x)
    shortcut = torch.cat([half, torch.zeros_like(half)], 1)
    out = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    torch.testing.assert_close(block(x), (out + shortcut).relu())
    assert not [key for key in net.state_dict() if 'downsample' in key]
    with pytest.raises(ValueError, match="'conv' is unknown.*'pad'"):
        CIFARResNet(20, shortcut='conv')


def test_modules_of_dgl():
    """1.727 M parameters; 58 entries in two halves of 29 (spec, 2.3)."""
    net = CIFARResNet(110, shortcut='pad')
    total = sum(p.numel() for p in net.parameters())
    assert total == 1_730_714 - 650 - (16 * 32 + 64) - (32 * 64 + 128)
    assert f'{total / 1e6:.3f}' == '1.727'
    (name,) = PUBLISHED_SPLITS['dgl/resnet110-k2']
    (cut,) = CutPoints(net, (3, 32, 32)).check([name])
    assert (cut.boundary.channels, 32 // cut.boundary.stride) == (32, 16)
    entries = ['conv', 'norm', 'relu']
    entries += [f'layer{s}.{b}' for s in (1, 2, 3) for b in range(18)]
    entries.append('pool')
    assert len(entries) == 58 and entries.index(name) == 29
