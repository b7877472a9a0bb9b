"""The encoder of Greedy InfoMax, against published tables and a plain one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmlocal.models.backbones import PatchBackbone, PreActResNet
from mmlocal.models.cut_points import CutPoints
from mmlocal.registry import MODELS

# Section 2.1 of what was published: parameters of each module.
PUBLISHED = {
    (50, 1): [216_064, 1_216_000, 7_088_128],
    (50, 3): [219_264, 1_216_000, 7_088_128],
    (34, 1): [223_232, 1_115_264, 6_819_072],
    (34, 3): [226_432, 1_115_264, 6_819_072],
}
# 10^9 multiplications and additions of ResNet-50 for an image of 49 patches,
# and MiB of what convolutions put out.
COST = [(2.69, 70), (4.11, 48), (5.86, 33)]


def modules(net):
    return [[net.stem, net.stages[0]], [net.stages[1]], [net.stages[2]]]


@pytest.mark.parametrize(('depth', 'channels'), PUBLISHED)
def test_published_parameters_and_shapes(depth, channels):
    with torch.device('meta'):
        net = PreActResNet(depth, channels, out_indices=(0, 1, 2))
        outs = net(torch.empty(2, channels, 16, 16))
    counts = [
        sum(p.numel() for part in parts for p in part.parameters())
        for parts in modules(net)
    ]
    assert counts == PUBLISHED[depth, channels]
    widths = [64, 128, 256] if depth == 34 else [256, 512, 1024]
    shapes = [tuple(out.shape[1:]) for out in outs]
    assert shapes == [
        (width, side, side)
        for width, side in zip(widths, (16, 8, 4), strict=True)
    ]


def test_published_cost():
    """It tells in which convolution a bottleneck has its stride."""
    with torch.device('meta'):
        net = PreActResNet(in_channels=1)
    found = []
    for parts in modules(net):
        total = [0, 0]
        for part in parts:
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_hook(counter(total))
        found.append(total)
    net(torch.empty(49, 1, 16, 16, device='meta'))
    for (macs, numbers), (giga, size) in zip(found, COST, strict=True):
        assert macs / 1e9 == pytest.approx(giga, abs=0.005)
        assert 4 * numbers / 2**20 == pytest.approx(size, abs=0.6)


def counter(total):
    def hook(layer, args, output):
        total[0] += output.numel() * layer.weight[0].numel()
        total[1] += output.numel()

    return hook


@pytest.mark.parametrize('depth', [34, 50])
def test_forward_is_that_of_plain_functions(depth):
    kwargs = dict(base_channels=4, stage_blocks=(1, 2), in_channels=2)
    net = PreActResNet(depth, **kwargs)
    x = torch.randn(2, 2, 8, 8)
    weights = net.state_dict()

    def conv(x, name, stride=1):
        weight = weights[f'{name}.weight']
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, weights[f'{name}.bias'], stride, padding)

    expected = conv(x, 'stem')
    for block, stride in ('0.0', 1), ('1.0', 2), ('1.1', 1):
        name = f'stages.{block}'
        out, shortcut = expected.relu(), expected
        if f'{name}.downsample.weight' in weights:
            shortcut = conv(out, f'{name}.downsample', stride)
        if depth == 34:
            out = conv(out, f'{name}.conv1', stride).relu()
            out = conv(out, f'{name}.conv2')
        else:
            out = conv(out, f'{name}.conv1').relu()
            out = conv(out, f'{name}.conv2', stride).relu()
            out = conv(out, f'{name}.conv3')
        expected = out + shortcut
    (found,) = net(x)
    torch.testing.assert_close(found, expected)
    # Nothing clips the last sum.
    assert (found < 0).any()


def test_can_be_cut_before_each_block():
    net = PatchBackbone(
        dict(type='mmlocal.PreActResNet', depth=34, in_channels=1)
    )
    points = CutPoints(net, (1, 64, 64))
    names = ['backbone.stages.1', 'backbone.stages.2']
    first, second = (cut.boundary for cut in points.check(names))
    assert (first.channels, first.stride, first.side) == (64, 1, 16)
    assert (second.channels, second.stride, second.side) == (128, 2, 8)
    ends = points.check_end()
    assert (ends.channels, ends.stride, ends.side) == (256, 4, 4)
    assert first.patches == second.patches == ends.patches == 49
    blocks = [cut.name for cut in points.blocks()]
    assert 'backbone.stages.2.5' in blocks and len(blocks) == 3 + 4 + 6


def test_patches_run_apart():
    """A patch's feature is that of the patch alone, bit for bit."""
    net = MODELS.build(
        dict(
            type='mmlocal.PatchBackbone',
            backbone=dict(
                type='mmlocal.PreActResNet',
                base_channels=4,
                depth=34,
                in_channels=1,
            ),
            patch_size=8,
            stride=4,
        )
    ).eval()
    image = torch.randn(1, 1, 16, 16)
    (feat,) = net(image)
    assert feat.shape == (9, 16, 2, 2)
    alone = net.backbone(image[:, :, 4:12, 8:16])[0]
    torch.testing.assert_close(feat[1 * 3 + 2], alone[0])


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'depth': 18}, r'depth=18 is unknown: write one of \(34, 50\)'),
        ({'stage_blocks': (3, 0)}, r'stage_blocks=\(3, 0\): write 1 or more'),
        ({'stage_blocks': ()}, 'stage_blocks'),
        ({'out_indices': (3,)}, r'out_indices=\(3,\): .* 0 to 2'),
    ],
)
def test_what_does_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PreActResNet(**kwargs)
