"""A step of local training over backbones of mmpretrain and mmseg."""

import pytest
import torch
from torch import nn

from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.models.cut_points import CutPoints
from mmlocal.registry import MODELS

BACKBONES = {
    'resnet': (
        {
            'type': 'mmpretrain.ResNet',
            'depth': 18,
            'stem_channels': 16,
            'base_channels': 16,
        },
        ['layer2.0', 'layer3.1'],
        128,
    ),
    'resnet_v1c': (
        {
            'type': 'mmseg.ResNetV1c',
            'depth': 50,
            'base_channels': 16,
            'num_stages': 3,
            'strides': (1, 2, 2),
            'dilations': (1, 1, 1),
            'out_indices': (1, 2),
        },
        ['layer2.2', 'layer3.1'],
        256,
    ),
    'resnext': (
        {
            'type': 'mmpretrain.ResNeXt',
            'depth': 50,
            'groups': 4,
            'width_per_group': 4,
            'num_stages': 2,
            'strides': (1, 2),
            'dilations': (1, 1),
            'out_indices': (1,),
        },
        ['layer2.1'],
        512,
    ),
    'vgg': (
        {'type': 'mmpretrain.VGG', 'depth': 11, 'norm_cfg': {'type': 'BN'}},
        ['features.2', 'features.6'],
        512,
    ),
    'densenet': (
        {
            'type': 'mmpretrain.DenseNet',
            'arch': {
                'growth_rate': 8,
                'depths': [2, 2, 2, 2],
                'init_channels': 16,
            },
        },
        ['transitions.0', 'stages.2'],
        32,
    ),
    'mobilenet_v2': (
        {'type': 'mmpretrain.MobileNetV2', 'widen_factor': 0.25},
        ['layer3.0', 'layer4.2'],
        1280,
    ),
    'convnext': (
        {
            'type': 'mmpretrain.ConvNeXt',
            'arch': {'depths': [1, 1, 2, 1], 'channels': [8, 16, 24, 32]},
            'gap_before_final_norm': False,
        },
        ['downsample_layers.1', 'stages.2.1'],
        32,
    ),
    'swin': (
        {
            'type': 'mmpretrain.SwinTransformer',
            'arch': {
                'embed_dims': 16,
                'depths': [1, 1, 2],
                'num_heads': [1, 2, 2],
            },
            'out_indices': (2,),
            'img_size': 64,
            'window_size': 2,
        },
        ['stages.1.blocks.0', 'stages.2.blocks.1'],
        64,
    ),
    'vit': (
        {
            'type': 'mmpretrain.VisionTransformer',
            'arch': {
                'embed_dims': 32,
                'num_layers': 4,
                'num_heads': 2,
                'feedforward_channels': 64,
            },
            'img_size': 64,
            'out_type': 'featmap',
        },
        ['layers.1', 'layers.3'],
        32,
    ),
    'mix_vision_transformer': (
        {
            'type': 'mmseg.MixVisionTransformer',
            'embed_dims': 8,
            'num_layers': [1, 1, 2, 1],
            'num_heads': [1, 2, 2, 4],
        },
        ['layers.1.0', 'layers.2.1.1'],
        32,
    ),
}


@MODELS.register_module(force=True)
class PoolLast(nn.Module):
    """Pools the last output; some of mmseg's backbones return a list."""

    def forward(self, outputs):
        return (outputs[-1].mean((2, 3)),)


TOKENS = {
    'swin': [True, True],
    'vit': [True, True],
    'mix_vision_transformer': [False, True],
}


# Others differ more from one another.
ALIKE = ('resnet_v1c', 'resnext', 'vgg', 'mobilenet_v2')


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE))
        for name in sorted(BACKBONES)
    ]
)
def name(request):
    return request.param


def model_cfg(helpers, name, head=None):
    inner, boundaries, channels = BACKBONES[name]
    head = head or {'type': 'mmlocal.GreedyHead', 'num_classes': 10}
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': inner,
        'boundaries': boundaries,
        'local_heads': head,
        'input_shape': (3, 64, 64),
    }
    cfg = helpers.classifier_cfg(backbone, channels)
    return {**cfg, 'neck': {'type': 'mmlocal.PoolLast'}}


def train_step(helpers, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    wrap = LocalOptimWrapper(optimizer=optimizer, accumulative_counts=2)
    log = model.train_step(helpers.classification_batch(2, side=64), wrap)
    return {**log, **wrap.step_log}


def test_a_step_trains_every_module(helpers, name):
    model = helpers.build(model_cfg(helpers, name))
    log = train_step(helpers, model)
    assert all(torch.isfinite(value).all() for value in log.values())
    count = len(BACKBONES[name][1])
    assert sum('local_' in k and 'loss' in k for k in log) == count
    untrained = [
        key
        for key, parameter in model.named_parameters()
        if parameter.grad is None
    ]
    assert not untrained


@pytest.mark.slow
def test_infopro_on_any_backbone(helpers, name):
    head = {
        'type': 'mmlocal.InfoProHead',
        'preset': 'imagenet',
        'num_classes': 10,
    }
    model = helpers.build(model_cfg(helpers, name, head))
    log = train_step(helpers, model)
    assert 0.3 < log['local_0.loss_recon'] < 3
    model.eval()
    for prediction in model.backbone.predict_local(torch.randn(2, 3, 64, 64)):
        assert prediction['reconstruction'].shape == (2, 3, 64, 64)
        assert prediction['logits'].shape == (2, 10)


def test_what_the_head_is_told(helpers, name):
    model = helpers.build(model_cfg(helpers, name))
    seen = []
    for head in model.backbone.local_heads:
        forward = head.loss

        def loss(feat, *args, head=head, forward=forward):
            seen.append((head.boundary, feat.shape))
            return forward(feat, *args)

        head.loss = loss
    train_step(helpers, model)
    for boundary, shape in seen:
        if boundary.layout == 'tokens':
            assert len(shape) == 3 and shape[2] == boundary.channels
        else:
            assert shape[1] == boundary.channels
            assert shape[2:] == boundary.feature_size((64, 64))
    assert [boundary.layout == 'tokens' for boundary, _ in seen] == TOKENS.get(
        name, [False] * len(seen)
    )


def test_finding_cuts_changes_nothing(helpers, name):
    inner = {**BACKBONES[name][0], '_scope_': 'mmpretrain'}
    backbone = helpers.build(inner)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    random = torch.get_rng_state()
    modes = [module.training for module in backbone.modules()]
    points = CutPoints(backbone, (3, 64, 64))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in backbone.modules()] == modes
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(m._forward_pre_hooks for m in backbone.modules())
    assert points.blocks() and points.depth


def test_layer_depth_for_learning_rate_decay(helpers):
    model = helpers.build(model_cfg(helpers, 'vit'))
    inner = model.backbone.backbone
    for parameter in ('cls_token', 'layers.2.attn.qkv.weight', 'ln1.weight'):
        expected = inner.get_layer_depth(parameter, '')
        name = f'backbone.backbone.{parameter}'
        assert model.backbone.get_layer_depth(name, 'backbone.') == expected
    head = 'backbone.local_heads.0.net.weight'
    depth, layers = model.backbone.get_layer_depth(head, 'backbone.')
    assert depth == layers - 1
