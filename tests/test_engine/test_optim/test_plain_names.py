"""Layer-wise rates by constructors that know plain backbones alone."""

from __future__ import annotations

from copy import deepcopy

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmlocal.plain_backbone import plain_backbone
from mmlocal.registry import MODELS

BACKBONE = {
    'type': 'mmseg.BEiT',
    'img_size': (32, 32),
    'patch_size': 8,
    'embed_dims': 8,
    'num_layers': 3,
    'num_heads': 2,
    'mlp_ratio': 2,
    'out_indices': (0, 1, 2),
    'qv_bias': True,
    'init_values': 0.1,
}
OPTIM = {
    'type': 'mmlocal.LocalOptimWrapper',
    'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.05},
    'constructor': 'LearningRateDecayOptimizerConstructor',
    'paramwise_cfg': {
        'num_layers': 3,
        'decay_rate': 0.5,
        'decay_type': 'layer_wise',
    },
}


@pytest.fixture
def model_of(helpers):
    def make(backbone):
        init_default_scope('mmseg')
        cfg = helpers.segmentor_cfg()
        cfg['backbone'] = backbone
        cfg['decode_head'] |= {'in_channels': 8, 'in_index': 2}
        return MODELS.build(cfg)

    return make


def rates(model, optim):
    wrap = build_optim_wrapper(model, deepcopy(optim))
    by_weight = {
        weight: (group['lr'], group['weight_decay'])
        for group in wrap.optimizer.param_groups
        for weight in group['params']
    }
    return {name: by_weight[w] for name, w in model.named_parameters()}


def test_rates_are_those_of_the_plain_model(model_of):
    expected = rates(model_of(BACKBONE), OPTIM)
    wrapped = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': BACKBONE,
        'boundaries': ['layers.1'],
        'local_heads': {
            'type': 'mmlocal.GreedyHead',
            'net': 'segmentation',
            'num_classes': 4,
        },
        'input_shape': (3, 32, 32),
    }
    model = model_of(wrapped)
    with pytest.raises(NotImplementedError):
        rates(model, OPTIM)
    optim = deepcopy(OPTIM)
    optim['paramwise_cfg']['constructor'] = optim['constructor']
    optim['constructor'] = 'mmlocal.PlainNamesConstructor'
    keys = [*model.state_dict()]
    found = rates(model, optim)
    assert [*model.state_dict()] == keys
    heads = {
        name: rate
        for name, rate in found.items()
        if name.startswith('backbone.local_heads.')
    }
    assert heads
    assert {rate for rate, _ in heads.values()} == {1.0}
    plain = {
        name.replace('backbone.backbone.', 'backbone.'): rate
        for name, rate in found.items()
        if name not in heads
    }
    assert plain == expected
    assert len({rate for rate, _ in expected.values()}) > 3


def test_models_without_a_cut_backbone_stay(model_of):
    model = model_of(BACKBONE)
    backbone = model.backbone
    with plain_backbone(model):
        assert model.backbone is backbone
    assert model.backbone is backbone
