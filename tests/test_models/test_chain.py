"""Modules of a chain, composed, are the backbone bit for bit."""

import pytest
import torch
from torch import nn

from mmlocal.models.calls import Calls
from mmlocal.models.chain import Chain


def chain_of(backbone, boundaries, shape):
    return Chain(backbone, boundaries, Calls(backbone, shape))


VIT = {
    'embed_dims': 16,
    'num_layers': 3,
    'num_heads': 2,
    'feedforward_channels': 32,
}
CHAINS = {
    'resnet': ({'type': 'ResNet', 'depth': 18}, ['layer2', 'layer3.1']),
    'two_outputs': (
        {'type': 'ResNet', 'depth': 18, 'out_indices': (2, 3)},
        ['layer3.1'],
    ),
    'resnet_v1c': ({'type': 'ResNetV1c', 'depth': 18}, ['layer4.0']),
    'cifar_resnet': (
        {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        ['layer2.0', 'layer3.0'],
    ),
    'cifar_densenet': ({'type': 'mmlocal.CIFARDenseNet', 'depth': 22}, []),
    'vgg': ({'type': 'VGG', 'depth': 11}, ['features.3', 'features.8']),
    'mobilenet': ({'type': 'MobileNetV2', 'widen_factor': 0.25}, ['layer3']),
    'convnext': (
        {
            'type': 'ConvNeXt',
            'arch': {'depths': [1, 1, 2, 1], 'channels': [4, 8, 12, 16]},
            'gap_before_final_norm': False,
        },
        ['stages.1', 'stages.2.1'],
    ),
    # Its first module is no chain: a token is prepended there.
    'vit': (
        {
            'type': 'VisionTransformer',
            'arch': VIT,
            'img_size': 32,
            'patch_size': 8,
            'out_type': 'raw',
        },
        ['layers.1', 'layers.2'],
    ),
}
# Others differ more from one another.
ALIKE = ('resnet_v1c', 'mobilenet')


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE))
        for name in CHAINS
    ],
)
def test_composed(helpers, name, training):
    cfg, boundaries = CHAINS[name]
    backbone = helpers.build({**cfg, '_scope_': 'mmpretrain'})
    backbone.train(training)
    chain = chain_of(backbone, boundaries, (3, 32, 32))
    feat = images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(1)
    for index in range(len(boundaries)):
        feat = chain.run(index, feat)
    found = chain.finish(feat)
    torch.manual_seed(1)
    expected = backbone(images)
    assert type(found) is type(expected) and len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    if not training:
        last = chain.run(len(boundaries), feat)
        assert torch.equal(last, expected[-1])


def test_gradients_reach_the_input(helpers):
    cfg, boundaries = CHAINS['vit']
    backbone = helpers.build({**cfg, '_scope_': 'mmpretrain'})
    chain = chain_of(backbone, boundaries, (3, 32, 32))
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    chain.run(0, images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_blocks_of_each_module(helpers):
    cfg, boundaries = CHAINS['resnet']
    backbone = helpers.build({**cfg, '_scope_': 'mmpretrain'})
    chain = chain_of(backbone, boundaries, (3, 32, 32))
    assert chain.names == [
        ['conv1', 'bn1', 'relu', 'maxpool', 'layer1'],
        ['layer2', 'layer3.0'],
        ['layer3.1', 'layer4'],
    ]
    assert chain.blocks(1)[0] is backbone.layer2


@pytest.mark.parametrize(
    ('cfg', 'boundary', 'message'),
    [
        (
            {'type': 'ResNet', 'depth': 18, 'out_indices': (0, 3)},
            'layer2',
            r'outs\[0\].*last module alone.*out_indices',
        ),
        (
            {
                'type': 'SwinTransformer',
                'arch': {
                    'embed_dims': 8,
                    'depths': [1, 1, 1, 1],
                    'num_heads': [1, 1, 2, 2],
                },
                'img_size': 64,
                'window_size': 2,
            },
            'stages.1',
            "no chain.*'stages.1'.*more than one value",
        ),
        (
            {
                'type': 'ConvNeXt',
                'arch': {'depths': [1] * 4, 'channels': [4, 8, 12, 16]},
            },
            'stages.1',
            "'stages.3'.*'norm3'",
        ),
    ],
)
def test_what_is_no_chain(helpers, cfg, boundary, message):
    backbone = helpers.build({**cfg, '_scope_': 'mmpretrain'})
    with pytest.raises(ValueError, match=message):
        chain_of(backbone, [boundary], (3, 64, 64))


class InPlace(nn.Module):
    """Ends in layers that return the tensor that they took."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.branch = nn.Conv2d(3, 4, 1)
        self.last = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True))
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x):
        return self.relu(self.last(self.first(x)))


def test_a_layer_in_place_at_the_end():
    net = InPlace()
    chain = chain_of(net, ['last.0'], (3, 8, 8))
    assert chain.names == [['first'], ['last.0', 'last.1', 'relu']]
    images = 20 * torch.randn(2, 3, 8, 8)
    outputs = chain.finish(chain.run(0, images))
    assert torch.equal(outputs, net(images))
    assert outputs.max() == 6


class Residual(InPlace):
    """A sum outside of submodules, behind the boundary."""

    def forward(self, x):
        return self.relu(self.last(self.first(x)) + self.branch(x))


def test_a_sum_between_submodules_is_a_gap():
    with pytest.raises(ValueError, match="no chain.*at 'last'"):
        chain_of(Residual(), [], (3, 8, 8))
