from __future__ import annotations

import pytest
from torch import nn

from mmlocal.units import find_units, loose_weights


@pytest.fixture
def segmentor(helpers):
    cfg = helpers.segmentor_cfg(['layer2.0', 'layer3.1'])
    return helpers.build(cfg)


@pytest.fixture
def vit(helpers):
    arch = {
        'embed_dims': 8,
        'num_layers': 2,
        'num_heads': 2,
        'feedforward_channels': 8,
    }
    inner = {'type': 'VisionTransformer', 'arch': arch, 'img_size': 32}
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {**inner, 'patch_size': 16},
        'boundaries': ['layers.1'],
        'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 3},
        'input_shape': (3, 32, 32),
    }
    cfg = helpers.classifier_cfg(backbone, 8)
    return helpers.build({**cfg, 'neck': None})


def test_units_and_loose_weights_are_all_weights_once(segmentor, vit):
    for model in (segmentor, vit):
        units = find_units(model)
        found = [w for unit in units.values() for w in unit.parameters()]
        found += [
            holder._parameters[name]
            for _, holder, names in loose_weights(model, units)
            for name in names
        ]
        assert len(found) == len({*found})
        assert {*found} == {*model.parameters()}


def test_units_are_blocks_and_layers_outside_of_them(segmentor):
    units = find_units(segmentor)
    inner = 'backbone.backbone'
    assert {f'{inner}.layer1.0', f'{inner}.layer4.1'} <= {*units}
    assert {f'{inner}.stem.0', 'decode_head.conv_seg'} <= {*units}


def test_the_class_token_belongs_to_no_unit(vit):
    units = find_units(vit)
    ((name, holder, names),) = loose_weights(vit, units)
    assert name == 'backbone.backbone'
    assert holder is vit.backbone.backbone
    assert names == ['cls_token', 'pos_embed']
    assert 'backbone.backbone.layers.0' in units


def test_submodules_may_be_chosen(segmentor):
    units = find_units(segmentor, ['decode_head'])
    assert 'decode_head' in units
    assert 'decode_head.conv_seg' not in units


def test_layers_without_a_cut_backbone():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    assert [*find_units(model)] == ['0', '2']
    attention = nn.ModuleDict({'a': nn.MultiheadAttention(4, 2)})
    assert [*find_units(attention)] == ['a']
