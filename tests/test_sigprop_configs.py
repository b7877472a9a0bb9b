"""Configs of Signal Propagation, against the published settings."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'sigprop').glob('*.py'))
TWINS = {'cnn': 'sp-cnn', 'r18': 'sp-resnet18', 'vgg8b': 'sp-vgg8b'}
# The block of the image among them.
BLOCKS = {'cnn': 4, 'r18': 9, 'vgg8b': 8}


def load(name: str) -> Config:
    folder = 'e2e' if name.startswith('sp-') else 'sigprop'
    return Config.fromfile(ROOT / folder / f'{name}.py')


def test_each_net_with_each_target():
    found = {tuple(name.split('_')[1:]) for name in NAMES}
    assert found == {
        (target, net, 'c10')
        for target in ('soft', 'hard', 'official')
        for net in TWINS
    } | {('hard', 'cnn', 'shapes')}


@pytest.mark.parametrize('name', NAMES)
def test_only_four_places_differ_from_end_to_end(name):
    _, target, net, data = name.split('_')
    data = data.replace('c10', 'cifar10')
    local = load(name).to_dict()
    plain = load(f'{TWINS[net]}_{data}').to_dict()
    wrapper = local['model'].pop('backbone')
    assert wrapper['backbone'] == plain['model'].pop('backbone')
    size = {} if data == 'cifar10' else {'image_size': 24}
    assert wrapper['local_heads'] == {
        'type': 'mmlocal.SigPropHead',
        'num_classes': local['model']['head']['num_classes'],
        'target': target,
        **size,
    }
    assert local.pop('custom_hooks') == [{'type': 'mmlocal.LocalLossHook'}]
    assert 'Distributed' in local.pop('model_wrapper_cfg')['type']
    optimizers = [cfg.pop('optim_wrapper') for cfg in (local, plain)]
    assert optimizers[0].pop('type') == 'mmlocal.LocalOptimWrapper'
    if target == 'official':
        assert optimizers[0]['optimizer'].pop('lr') == 4e-4
        assert optimizers[1]['optimizer'].pop('lr') == 5e-4
    assert optimizers[0]['optimizer'] == optimizers[1]['optimizer']
    assert local == plain


@pytest.mark.parametrize('name', NAMES)
def test_a_head_for_each_block(name):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    model = deepcopy(cfg.model)
    model.data_preprocessor = cfg.data_preprocessor
    with torch.device('meta'):
        model = MODELS.build(model)
    blocks = BLOCKS[name.split('_')[2]]
    assert len(model.backbone.backbone.layers) == blocks
    assert len(model.backbone.local_heads) == blocks
    assert model.backbone.boundaries == [
        f'layers.{index}' for index in range(1, blocks)
    ]
    # The signal has the shape of what the first block gives.
    first, *rest = model.backbone.local_heads
    channels = model.backbone.backbone.layers[0][0].out_channels
    size = model.backbone.input_shape[1:]
    assert first.project.shape == (channels, *size)
    assert {head.project for head in rest} == {None}
    end = model.backbone.local_heads[-1].boundary
    assert (end.name, end.channels) == ('end', model.head.in_channels)


def test_published_settings():
    cfg = load('sp_hard_r18_c10')
    assert cfg.optim_wrapper.optimizer == {'type': 'Adam', 'lr': 5e-4}
    (scheduler,) = cfg.param_scheduler
    assert scheduler.milestones == [200, 300, 350, 375]
    assert (scheduler.gamma, cfg.train_cfg.max_epochs) == (0.2, 400)
    assert cfg.train_dataloader.batch_size == 128
    mean, std = cfg.data_preprocessor['mean'], cfg.data_preprocessor['std']
    assert [m / 255 for m in mean] == pytest.approx(
        [0.4914, 0.48220, 0.4465], abs=1e-4
    )
    assert [s / 255 for s in std] == pytest.approx(
        [0.2023, 0.1994, 0.2010], abs=1e-4
    )
    kinds = [t.type for t in cfg.train_dataloader.dataset.pipeline]
    assert kinds == ['RandomFlip', 'PackInputs']
