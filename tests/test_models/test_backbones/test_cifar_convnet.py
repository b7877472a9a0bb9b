import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmlocal.models.backbones import CIFARConvNet
from mmlocal.models.backbones.cifar_convnet import DOWNSAMPLING, SpaceToDepth
from mmlocal.models.cut_points import CutPoints
from mmlocal.registry import MODELS

# Section 2.1 of the specification: channels and sides of the blocks.
NETS = {
    'learning curves': (
        {'depth': 4, 'base_channels': 64},
        [(64, 32), (128, 16), (128, 16), (256, 8)],
    ),
    'auxiliary nets': (
        {'depth': 6, 'base_channels': 128},
        [(128, 32), (256, 16), (256, 16), (512, 8), (512, 8), (512, 8)],
    ),
    'buffer': (
        {'depth': 6, 'downsample': (2, 4), 'conv_bias': False},
        [(128, 32), (128, 32), (256, 16), (256, 16), (512, 8), (512, 8)],
    ),
}


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('downsampling', DOWNSAMPLING)
def test_published_sizes_and_parameters(name, downsampling):
    kwargs, blocks = NETS[name]
    with torch.device('meta'):
        net = CIFARConvNet(**kwargs, downsampling=downsampling)
        x = torch.empty(2, 3, 32, 32)
        (feat,) = net(x)
        sizes, expected, before = [], 0, (3, 32)
        for block, (channels, side) in zip(net.features, blocks, strict=True):
            x = block(x)
            sizes.append((x.shape[1], x.shape[2]))
            rearranged = downsampling == 'space-to-depth' and side < before[1]
            inputs = before[0] * (4 if rearranged else 1)
            bias = kwargs.get('conv_bias', True)
            expected += channels * (9 * inputs + bias + 2)
            before = (channels, side)
    assert sizes == blocks
    assert feat.shape == x.shape
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize('name', NETS)
def test_can_be_cut_before_each_block(name):
    kwargs, blocks = NETS[name]
    points = CutPoints(CIFARConvNet(**kwargs), (3, 32, 32))
    names = [f'features.{i}' for i in range(1, len(blocks))]
    assert [cut.name for cut in points.blocks()] == names
    cuts = points.check(names)
    # A pooling opens the module that follows it.
    assert [
        (cut.boundary.channels, 32 // cut.boundary.stride) for cut in cuts
    ] == blocks[:-1]
    assert [cut.depth for cut in cuts] == [*range(1, len(blocks))]


def conv(block, x, **kwargs):
    return F.conv2d(x, block.conv.weight, block.conv.bias, padding=1, **kwargs)


@pytest.mark.parametrize('downsampling', DOWNSAMPLING)
def test_downsampling_comes_first(downsampling):
    net = CIFARConvNet(2, 4, (1,), downsampling).eval()
    block = net.features[1]
    x = torch.randn(2, 4, 8, 8)
    if downsampling == 'stride':
        out = conv(block, x, stride=2)
    elif downsampling == 'space-to-depth':
        rows = [x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
        out = conv(block, torch.cat(rows, 1))
    else:
        pool = {'max': F.max_pool2d, 'avg': F.avg_pool2d}[downsampling]
        out = conv(block, pool(x, 2))
    torch.testing.assert_close(block(x), block.bn(out).relu())


def test_space_to_depth_is_pixel_unshuffle_in_another_order():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    ours = SpaceToDepth()(x)
    torchs = F.pixel_unshuffle(x, 2)
    assert ours.shape == (2, 12, 2, 3)
    order = [4 * c + place for place in range(4) for c in range(3)]
    assert torch.equal(ours, torchs[:, order])


def test_bias_and_initialization():
    """Torch's own; no bias where none is asked for."""
    torch.manual_seed(0)
    net = MODELS.build(
        {
            'type': 'mmlocal.CIFARConvNet',
            'depth': 2,
            'base_channels': 4,
            'downsample': (1,),
        }
    )
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.init_weights()
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    assert net.features[1].conv.bias is not None
    plain = CIFARConvNet(2, 4, conv_bias=False, downsample=())
    convs = [m for m in plain.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.bias for conv in convs] == [None, None]


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'depth': 3}, r'downsample=\(1, 3\) names block 3: .* = 2'),
        ({'downsample': (0,)}, 'names block 0'),
        ({'downsampling': 'psi'}, "'psi' is unknown.*'space-to-depth'"),
    ],
)
def test_bad_config(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CIFARConvNet(**kwargs)
