"""The nets of layer-wise training, against the published lists and counts."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from mmengine.model import BaseModule

from mmlocal.models.backbones import LayerwiseVGG
from mmlocal.models.backbones.layerwise_resnet import LayerwiseResNet
from mmlocal.models.backbones.layerwise_vgg import LayerwiseBlock

WIDTHS = {
    'vgg6b': '128 M 256 M 512 M 512 M',
    'vgg8b': '128 256 M 256 512 M 512 M 512 M',
    'vgg11b': '128 128 128 256 M 256 512 M 512 512 M 512 M',
    'vgg11': '64 M 128 M 256 256 M 512 512 M 512 512 M',
    'vgg13': '64 64 M 128 128 M 256 256 M 512 512 M 512 512 M',
    'vgg16': ('64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M'),
}
RESNETS = {
    18: ('basic', [2, 2, 2, 2]),
    34: ('basic', [3, 4, 6, 3]),
    50: ('bottleneck', [3, 4, 6, 3]),
    101: ('bottleneck', [3, 4, 23, 3]),
    152: ('bottleneck', [3, 8, 36, 3]),
}


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def resnet_weights(depth):
    """Convolutions without bias, two values of BatchNorm a channel."""
    kind, blocks = RESNETS[depth]

    def conv(k, inner, outer):
        return k * k * inner * outer + 2 * outer

    total, channels = conv(3, 3, 64), 64
    for stage, number in enumerate(blocks):
        width = 64 << stage
        out = width * (4 if kind == 'bottleneck' else 1)
        for block in range(number):
            if kind == 'basic':
                total += conv(3, channels, width) + conv(3, width, width)
            else:
                total += conv(1, channels, width) + conv(3, width, width)
                total += conv(1, width, out)
            if block == 0 and (stage or channels != out):
                total += conv(1, channels, out)
            channels = out
    return total


@pytest.mark.parametrize('depth', RESNETS)
def test_resnets(depth, monkeypatch):
    # mmpretrain's ResNet reads the numbers of a linspace.
    linspace = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', linspace)
    with torch.device('meta'):
        net = LayerwiseResNet(depth)
    assert count(net) == resnet_weights(depth)
    assert sum(net.stage_blocks) == sum(RESNETS[depth][1])


def test_resnet_18_is_the_usual_one():
    """11,173,962 with its classifier."""
    assert resnet_weights(18) + 512 * 10 + 10 == 11_173_962


def test_stem_drops_units_in_training_only():
    net = LayerwiseResNet(18, drop_rate=0.5, base_channels=4)
    seen = []
    net.layer1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(2, 3, 16, 16)
    (out,) = net(x)
    assert out.shape == (2, 32, 2, 2)
    net.eval()
    with torch.no_grad():
        net(x)
        stem = net.relu(net.bn1(net.conv1(x)))
    torch.testing.assert_close(seen[1], stem)
    dropped = (seen[0] == 0).float().mean().item()
    assert dropped > (seen[1] == 0).float().mean().item() + 0.15


def test_residual_branches_begin_as_torch_leaves_them():
    net = LayerwiseResNet(18, base_channels=4)
    before = deepcopy(net.state_dict())
    net.init_weights()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert net.layer1[0].bn2.weight.min() == 1


@pytest.mark.parametrize('arch', WIDTHS)
def test_vggs(arch):
    with torch.device('meta'):
        net = LayerwiseVGG(arch)
    found, channels, expected = [], 3, 0
    for layer in net.features:
        if isinstance(layer, LayerwiseBlock):
            found.append(str(layer.layer.weight.shape[0]))
        elif isinstance(layer, torch.nn.MaxPool2d):
            found.append('M')
            assert layer.kernel_size == 2
    assert found == [*WIDTHS[arch].split(), '512', '512']
    for width in WIDTHS[arch].split():
        if width != 'M':
            expected += int(width) * (9 * channels + 1 + 2)
            channels = int(width)
    side = 32 >> WIDTHS[arch].split().count('M')
    expected += 512 * (channels * side * side + 1 + 2) + 512 * (512 + 1 + 2)
    assert count(net) == expected


@pytest.mark.parametrize('size', [28, 32])
def test_vgg_at_other_sizes(size):
    net = LayerwiseVGG([4, 'M', 4, 'M', 4, 'M'], image_size=size)
    assert net(torch.randn(2, 3, size, size))[0].shape == (2, 512)


def test_parts_of_a_block_are_optional():
    net = LayerwiseVGG([4], 8, (6,), norm=False, act_cfg=None, drop_rate=0.0)
    assert count(net) == 4 * 28 + 6 * (4 * 64 + 1)
    x = torch.randn(2, 3, 8, 8)
    conv, linear = net.features[0].layer, net.features[2].layer
    torch.testing.assert_close(net(x)[0], linear(conv(x).flatten(1)))
    net = LayerwiseVGG([4], 8, act_cfg={'type': 'LeakyReLU'})
    assert isinstance(net.features[0].act, torch.nn.LeakyReLU)
    assert net.features[0].dropout.p == 0.2


def test_architectures_that_do_not_fit():
    with pytest.raises(ValueError, match="arch='vgg19'.*'vgg6b'"):
        LayerwiseVGG('vgg19')
    with pytest.raises(ValueError, match='image_size=8.*write 16'):
        LayerwiseVGG('vgg6b', image_size=8)
    assert issubclass(LayerwiseVGG, BaseModule)


@pytest.mark.parametrize(
    ('net', 'heads'),
    [
        ({'type': 'mmlocal.LayerwiseResNet', 'depth': 18}, 9),
        ({'type': 'mmlocal.LayerwiseResNet', 'depth': 50}, 17),
        # Nine convolutions and two linear layers.
        ({'type': 'mmlocal.LayerwiseVGG', 'arch': 'vgg11b'}, 11),
        ({'type': 'mmlocal.LayerwiseVGG', 'arch': 'vgg6b'}, 6),
    ],
)
def test_local_losses(net, heads, helpers):
    cfg = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': net,
        'boundaries': {'type': 'mmlocal.EachBlock'},
        'local_heads': {'type': 'mmlocal.LayerwiseHead', 'num_classes': 10},
        'local_end': True,
        'input_shape': (3, 32, 32),
    }
    backbone = helpers.build(cfg)
    assert len(backbone.local_heads) == heads
    if net.get('depth') == 18:
        for head in backbone.local_heads:
            assert count(head) == 20_490
