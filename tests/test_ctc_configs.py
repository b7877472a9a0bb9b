"""Contrastive temporal coding: every config against its end-to-end twin."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmlocal.datasets import CIFAR10

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'ctc').glob('*.py'))
PRESETS = ('transferability', 'discriminability')
# Of the twin, in millions.
PUBLISHED = {
    'resnext32-16x4d_cifar100': 1.112,
    'wrn-28-4_cifar100': 5.872,
    'resnet18_cifar100': 11.220,
}


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def build(cfg: Config, monkeypatch):
    """The model, without memory for its weights."""
    init_default_scope(cfg.default_scope)
    linspace = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', linspace)
    with torch.device('meta'):
        return MODELS.build(deepcopy(cfg.model))


@pytest.mark.parametrize('name', NAMES)
def test_it_is_the_twin_with_head_hook_and_epochs(name, monkeypatch):
    base, preset = name.rsplit('_', 1)
    cfg, twin = load(f'ctc/{name}'), load(f'e2e/{base}')
    assert cfg.model.head.preset == preset in PRESETS
    assert cfg.model.backbone == twin.model.backbone
    for key in 'train_dataloader', 'val_dataloader', 'test_dataloader':
        assert cfg[key] == twin[key]
    for key in 'optim_wrapper', 'data_preprocessor', 'default_hooks':
        assert cfg[key] == twin[key]
    model, plain = build(cfg, monkeypatch), build(twin, monkeypatch)
    own = model.state_dict()
    for key, value in plain.state_dict().items():
        assert own[key].shape == value.shape
    total = sum(p.numel() for p in plain.parameters()) / 1e6
    assert round(total, 3) == PUBLISHED.get(base, round(total, 3))


@pytest.mark.parametrize('name', NAMES)
def test_stages_rates_and_images_fit_together(name):
    cfg = load(f'ctc/{name}')
    (hook,) = cfg.custom_hooks
    first, second = cfg.param_scheduler
    epochs = cfg.train_cfg.max_epochs
    assert 0 == first.begin < first.end == hook.switch_epoch
    assert hook.switch_epoch == second.begin < second.end == epochs
    assert hook.switch_epoch / epochs == pytest.approx(200 / 300)
    assert (hook.weight_decay_factor, second.factor) == (2, 0.1)
    assert cfg.find_unused_parameters
    head = cfg.model.head
    small = 'cifar10-6' in name
    images = 5000 * head.num_classes if small else 50_000
    assert head.num_images == images
    largest = images // head.num_classes
    assert head.get('num_negatives', 16384) <= images - largest


def test_all_presets_are_there():
    bases = {name.rsplit('_', 1)[0] for name in NAMES}
    assert bases == {*PUBLISHED, 'resnet20_cifar10-6'}
    assert {*NAMES} == {f'{b}_{preset}' for b in bases for preset in PRESETS}


def test_the_small_runs_are_as_long_as_their_baseline():
    twin = load('e2e/resnet20_cifar10-6')
    for preset in PRESETS:
        cfg = load(f'ctc/resnet20_cifar10-6_{preset}')
        assert cfg.train_cfg == twin.train_cfg
    # All epochs are kept.
    assert twin.default_hooks.checkpoint.max_keep_ckpts == -1


def test_source_and_target_share_no_class():
    source = load('_base_/datasets/cifar10_6')
    target = load('_base_/datasets/cifar10_4')
    classes = []
    for cfg, count in (source, 6), (target, 4):
        assert cfg.data_preprocessor.num_classes == count
        assert cfg.data_preprocessor.mean == source.data_preprocessor.mean
        for key in 'train_dataloader', 'val_dataloader', 'test_dataloader':
            assert len(cfg[key].dataset.classes) == count
        classes += cfg.train_dataloader.dataset.classes
    assert classes == [*CIFAR10.METAINFO['classes']]


def test_cinic10_is_tested_on_test():
    cfg = load('_base_/datasets/cinic10')
    loaders = [cfg[f'{part}_dataloader'] for part in ('train', 'val', 'test')]
    splits = [loader.dataset.split for loader in loaders]
    assert splits == ['train', 'valid', 'test']
    assert {loader.dataset.type for loader in loaders} == {'mmlocal.CINIC10'}
