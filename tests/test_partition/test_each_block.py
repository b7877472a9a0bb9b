"""Which places count as blocks, on nets of three libraries."""

import pytest
import torch
from torch import nn

from mmlocal.models.cut_points import CutPoints
from mmlocal.partition import EachBlock

VIT = {
    'embed_dims': 16,
    'num_layers': 3,
    'num_heads': 2,
    'feedforward_channels': 32,
}
SWIN = {'embed_dims': 8, 'depths': [2, 2], 'num_heads': [1, 2]}
STAGES = [f'layer{stage}.{block}' for stage in range(1, 5) for block in (0, 1)]
NETS = {
    'ResNet': ({'depth': 18}, STAGES),
    # The convolutions of its stem are layers, no blocks.
    'mmseg.ResNetV1c': (
        {'depth': 18, 'strides': (1, 2, 1, 1), 'dilations': (1, 1, 2, 4)},
        STAGES,
    ),
    'mmlocal.CIFARResNet': (
        {'depth': 8},
        ['layer1.0', 'layer2.0', 'layer3.0'],
    ),
    # A pooling opens the module that follows it.
    'VGG': (
        {'depth': 11, 'norm_cfg': {'type': 'BN'}},
        [f'features.{index}' for index in (1, 3, 5, 6, 8, 9, 11)],
    ),
    'VisionTransformer': (
        {'arch': VIT, 'img_size': 64, 'patch_size': 16},
        ['layers.0', 'layers.1', 'layers.2'],
    ),
    # So does patch merging.
    'SwinTransformer': (
        {'arch': SWIN, 'img_size': 64, 'out_indices': [1]},
        [
            'stages.0.blocks.0',
            'stages.0.blocks.1',
            'stages.0.downsample',
            'stages.1.blocks.1',
        ],
    ),
    'ConvNeXt': (
        {
            'arch': {'depths': [2, 1], 'channels': [8, 16]},
            'out_indices': [1],
        },
        ['stages.0.0', 'stages.0.1', 'downsample_layers.1', 'stages.1.0'],
    ),
    # The layers of a stage cannot be told apart.
    'DenseNet': (
        {'arch': {'growth_rate': 4, 'depths': [2, 2], 'init_channels': 8}},
        ['stages.0', 'transitions.0', 'stages.1'],
    ),
}


@pytest.mark.parametrize('kind', NETS)
def test_a_module_for_each_block(kind, helpers):
    options, expected = NETS[kind]
    scope = 'mmpretrain'
    net = helpers.build({'type': kind, '_scope_': scope, **options})
    points = CutPoints(net, (3, 64, 64))
    found = EachBlock()(points)
    assert found == expected
    cuts = points.check(found)
    depths = [0, *(cut.depth for cut in cuts), points.depth]
    assert depths == sorted(set(depths))  # each module holds layers


def test_a_net_without_blocks():
    layers = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)]
    points = CutPoints(nn.Sequential(*layers), (3, 8, 8))
    with pytest.raises(ValueError, match='EachBlock.*names of the boundar'):
        EachBlock()(points)
    points = CutPoints(nn.Sequential(layers[0]), (3, 8, 8))
    with pytest.raises(ValueError, match='none of its submodules'):
        EachBlock()(points)


def test_in_a_config(helpers):
    cfg = helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
            'boundaries': {'type': 'mmlocal.EachBlock'},
            'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 10},
            'local_end': True,
            'input_shape': (3, 32, 32),
        },
        channels=64,
    )
    backbone = helpers.build(cfg).backbone
    assert backbone.num_modules == len(backbone.local_heads) == 4
    assert [head.boundary.side for head in backbone.local_heads] == [
        *(32, 32, 16, 8)
    ]
    feat = backbone.chain.run(0, torch.zeros(1, 3, 32, 32))
    assert feat.shape == (1, 16, 32, 32)
