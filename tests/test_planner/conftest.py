"""Small training configs for planner tests."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

import pytest
from mmseg.models.backbones import ResNetV1c
from mmseg.models.backbones.resnet import BasicBlock
from torch import nn

from mmlocal.planner import Simulator, TrainingSetting
from mmlocal.registry import MODELS

TOKENS = {'type': 'mmlocal.GreedyHead', 'net': 'linear', 'num_classes': 10}
CIFAR_HEAD = {'type': 'mmlocal.InfoProHead', 'num_classes': 10}
INNER = {
    'resnet': ({'type': 'mmlocal.CIFARResNet', 'depth': 14}, 64, CIFAR_HEAD),
    'vit': (
        {
            'type': 'VisionTransformer',
            'arch': {
                'embed_dims': 32,
                'num_layers': 3,
                'num_heads': 2,
                'feedforward_channels': 128,
            },
            'img_size': 32,
            'patch_size': 4,
            'out_type': 'avg_featmap',
            'drop_rate': 0.1,
        },
        32,
        TOKENS,
    ),
    'swin': (
        {
            'type': 'SwinTransformer',
            'arch': {
                'embed_dims': 16,
                # A second block shifts its windows, unless the map is one.
                'depths': [2, 1],
                'num_heads': [1, 2],
            },
            'out_indices': (1,),
            'img_size': 32,
            'window_size': 4,
            'pad_small_map': True,
            'drop_path_rate': 0.1,
        },
        32,
        TOKENS,
    ),
    'convnext': (
        {
            'type': 'ConvNeXt',
            'arch': {'depths': [2, 2], 'channels': [8, 16]},
            'out_indices': (1,),
        },
        16,
        TOKENS,
    ),
}


UNET = {
    'type': 'UNet',
    'base_channels': 8,
    'num_stages': 3,
    'strides': (1,) * 3,
    'enc_num_convs': (2,) * 3,
    'dec_num_convs': (2,) * 2,
    'downsamples': (True,) * 2,
    'enc_dilations': (1,) * 3,
    'dec_dilations': (1,) * 2,
}


@MODELS.register_module(force=True)
class ConvChain(nn.Sequential):
    """Blocks of one convolution, of these widths and strides."""

    def __init__(self, widths, strides, norm=True):
        blocks, before = [], 3
        for width, stride in zip(widths, strides, strict=True):
            layers = [nn.Conv2d(before, width, 3, stride, 1, bias=False)]
            if norm:
                layers.append(nn.BatchNorm2d(width, affine=False))
                layers.append(nn.ReLU(inplace=True))
            else:
                layers.append(nn.GELU())
            blocks.append(nn.Sequential(*layers))
            before = width
        super().__init__(OrderedDict(blocks=nn.Sequential(*blocks)))

    def forward(self, x):
        return (super().forward(x),)


def _chain(widths, strides, **options):
    inner = {'type': 'mmlocal.ConvChain', **options}
    return {**inner, 'widths': widths, 'strides': strides}, widths[-1], TOKENS


INNER['chain'] = _chain([8, 8, 16, 32, 32], [1, 1, 2, 2, 1])
# 30 cuts, and few operators.
INNER['deep'] = _chain(
    [4] * 10 + [8] * 10 + [12] * 11, ([1] * 9 + [2]) * 3 + [1], norm=False
)


@MODELS.register_module(force=True)
class ShallowResNetV1c(ResNetV1c):
    """Of fewer blocks than any."""

    arch_settings = {18: (BasicBlock, (1, 1, 2, 1))}


def _config(helpers, net: str) -> dict:
    if net in ('deeplab', 'fpn', 'unet'):
        model = helpers.segmentor_cfg(
            ['layer3.0'], type='mmlocal.ShallowResNetV1c'
        )
        if net == 'deeplab':
            model['auxiliary_head'] = {
                **model['decode_head'],
                'in_channels': 32,
                'in_index': 2,
            }
            model['decode_head']['in_index'] = 3
        elif net == 'unet':
            model['backbone'].update(backbone=UNET, boundaries=['decoder.1'])
            model['decode_head'].update(in_channels=8, in_index=2)
        else:
            model['decode_head'] = {
                'type': 'SegformerHead',
                'in_channels': [8, 16, 32, 64],
                'in_index': [0, 1, 2, 3],
                'channels': 8,
                'num_classes': 4,
                'dropout_ratio': 0,
            }
        scope = 'mmseg'
    else:
        inner, channels, head = deepcopy(INNER[net])
        side = inner.get('img_size', 32)
        backbone = {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': inner,
            'local_heads': head,
            'input_shape': (3, side, side),
        }
        model = helpers.classifier_cfg(backbone, channels)
        if net in ('vit', 'convnext'):
            model['neck'] = None
        scope = 'mmpretrain'
    optimizer = {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}
    if net in ('chain', 'deep'):
        # Fewer operators: hundreds of steps are run.
        del optimizer['momentum']
    elif net in ('swin', 'convnext'):
        optimizer = {'type': 'AdamW', 'lr': 0.001}
    side = model['backbone'].get('input_shape', (3, 32, 32))[1]
    return {
        'default_scope': scope,
        'model': model,
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': optimizer,
        },
        'train_dataloader': {
            'batch_size': 4,
            'dataset': {'image_size': (side, side)},
        },
    }


@pytest.fixture
def config(helpers):
    """The config of a small net, by name."""
    return lambda net: _config(helpers, net)


@pytest.fixture
def simulate(helpers):
    """A simulator of a small net, by name."""

    def make(net, **options):
        options = {'device': 'cpu', **options}
        return Simulator(TrainingSetting(_config(helpers, net), **options))

    return make
