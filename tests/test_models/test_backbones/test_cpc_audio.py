"""The encoder of CPC for speech, as Greedy InfoMax cuts it."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope

from mmlocal.analysis import Taps
from mmlocal.models.backbones import CPCAudioEncoder
from mmlocal.registry import MODELS

LAYERS = ['layers.1', 'layers.2', 'layers.3', 'layers.4']
HEAD = {'type': 'mmlocal.SequenceInfoNCEHead', 'target_channels': 512}
# By number of modules: the boundaries, and weights of module and head.
SPLITS = {
    6: (
        [*LAYERS, 'autoregressor'],
        [3_151_360, 5_243_392, 4_194_816, 4_194_816, 4_194_816, 2_164_224],
    ),
    5: (
        LAYERS,
        [3_151_360, 5_243_392, 4_194_816, 4_194_816, 3_213_312],
    ),
    1: ([], [7_414_784]),
}


@pytest.mark.parametrize('count', SPLITS)
def test_parameters_and_lengths_are_the_published_ones(count):
    init_default_scope('mmpretrain')
    boundaries, weights = SPLITS[count]
    with torch.device('meta'):
        backbone = MODELS.build(
            {
                'type': 'mmlocal.LocalSupervisedBackbone',
                'backbone': {'type': 'mmlocal.CPCAudioEncoder'},
                'boundaries': boundaries,
                'local_heads': HEAD,
                'local_end': True,
                'input_shape': (1, 3200),
            }
        )
    found = [
        sum(weight.numel() for weight in backbone.module_weights(index))
        for index in range(backbone.num_modules)
    ]
    assert found == weights
    waves = torch.zeros(1, 1, 20480, device='meta')
    lengths = Taps(backbone)(waves, lambda feat: feat.shape[2])
    places = range(count) if count > 1 else [5]
    assert lengths == [[4095, 1023, 512, 257, 128, 128][i] for i in places]
    assert {h.boundary.layout for h in backbone.local_heads} == {'sequence'}


def test_modules_run_alone():
    """As cached features and replay need them."""
    init_default_scope('mmpretrain')
    backbone = MODELS.build(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.CPCAudioEncoder', 'channels': 8},
            'boundaries': [*LAYERS, 'autoregressor'],
            'local_heads': {'type': 'mmlocal.SequenceInfoNCEHead'},
            'local_end': True,
            'input_shape': (1, 3200),
        }
    ).eval()
    feat = waves = torch.randn(2, 1, 3200)
    for index in range(6):
        feat = backbone.run_module(index, feat)
    assert torch.equal(feat, backbone(waves)[0])


def test_images_are_refused():
    with pytest.raises(ValueError, match=r'\(N, 1, samples\).*input_shape'):
        CPCAudioEncoder(8)(torch.zeros(1, 3, 32, 32))
