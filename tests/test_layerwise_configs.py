"""Configs of layer-wise training, against the published recipe."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmlocal.models.cut_forward import cut_forward

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'layerwise').glob('*.py'))
CIFAR = [name for name in NAMES if '_cifar' in name]
# Local heads, one for each block (and linear layer).
LAYERS = {'resnet18': 9, 'resnet50': 17, 'vgg11b': 11, 'resnet20': 10}
LOSSES = {
    'ce': 'softmax',
    'sim': 'similarity',
    'predsim': 'predsim',
    'supcon': 'contrast',
}


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


@pytest.mark.parametrize('net', ['resnet18', 'resnet50', 'vgg11b'])
@pytest.mark.parametrize('data', ['cifar10', 'cifar100'])
@pytest.mark.parametrize('loss', LOSSES)
def test_published_recipe(net, data, loss):
    cfg = load(f'layerwise/lw-{net}_{data}_{loss}')
    head = cfg.model.backbone.local_heads
    assert head.get('loss', 'softmax') == LOSSES[loss]
    assert head.num_classes == cfg.model.head.num_classes
    assert cfg.data_preprocessor.num_classes == head.num_classes
    assert cfg.optim_wrapper.optimizer == {'type': 'Adam', 'lr': 5e-4}
    (scheduler,) = cfg.param_scheduler
    assert scheduler.milestones == [200, 300, 350, 375]
    assert scheduler.gamma == 0.2
    assert cfg.train_cfg.max_epochs == 400
    assert cfg.train_dataloader.batch_size == 128
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.type == f'mmlocal.{data.upper()}'
        assert loader.dataset.data_root == f'data/{data}'
    kinds = [each['type'] for each in cfg.train_dataloader.dataset.pipeline]
    first = 'MultiView' if loss == 'supcon' else 'RandomFlip'
    assert kinds == [first, 'PackInputs']
    mean, std = {
        'cifar10': ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        'cifar100': ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    }[data]
    for key, published in ('mean', mean), ('std', std):
        pixels = [255 * value for value in published]
        assert cfg.data_preprocessor[key] == pytest.approx(pixels)


@pytest.mark.parametrize('net', ['resnet18', 'resnet50', 'vgg11b'])
@pytest.mark.parametrize('data', ['cifar10', 'cifar100'])
def test_only_the_four_places_differ_from_end_to_end(net, data):
    local = load(f'layerwise/lw-{net}_{data}_ce').to_dict()
    plain = load(f'e2e/lw-{net}_{data}').to_dict()
    assert local['model'].pop('backbone')['backbone'] == plain['model'].pop(
        'backbone'
    )
    for key in 'custom_hooks', 'model_wrapper_cfg':
        local.pop(key)
    for cfg in local, plain:
        cfg['optim_wrapper'].pop('type')
    assert local == plain


@pytest.mark.parametrize('data', ['cifar10', 'cifar100'])
def test_the_views(data):
    cfg = load(f'layerwise/lw-resnet18_{data}_supcon')
    view, _ = cfg.train_dataloader.dataset.pipeline
    (transforms,) = view.transforms
    crop, flip, jitter, grey = transforms
    assert (crop.scale, crop.crop_ratio_range) == (32, (0.2, 1.0))
    assert (flip.prob, jitter.prob, grey.prob) == (0.5, 0.8, 0.2)
    (colours,) = jitter.transforms
    strengths = {k: v for k, v in colours.items() if k != 'type'}
    assert strengths == {
        'brightness': 0.4,
        'contrast': 0.4,
        'saturation': 0.4,
        'hue': 0.1,
    }


def test_the_published_mismatch_of_sizes():
    found = load('layerwise/lw-resnet18_cifar10_supcon_28px').to_dict()
    twin = load('layerwise/lw-resnet18_cifar10_supcon').to_dict()
    assert found['model']['backbone'].pop('input_shape') == (3, 28, 28)
    twin['model']['backbone'].pop('input_shape')
    for cfg, size in (found, 28), (twin, 32):
        views = cfg['train_dataloader']['dataset'].pop('pipeline')[0]
        assert views['transforms'][0][0].pop('scale') == size
        for key in 'crop', 'two_views':
            cfg.pop(key)
    assert found == twin


@pytest.mark.parametrize('moving', [False, True])
def test_sequential(moving):
    """50 epochs for each of nine layers and the classifier."""
    name = 'layerwise/lw-resnet18_cifar10_ce'
    found = load(f'{name}_sequential{"_moving" * moving}').to_dict()
    twin = load(name).to_dict()
    loop = found.pop('train_cfg')
    assert loop.pop('type') == 'mmlocal.SequentialTrainLoop'
    assert loop.pop('moving_statistics', False) == moving
    assert loop == {'epochs': 50, 'head_epochs': 50}
    assert found.pop('param_scheduler') == []
    del twin['param_scheduler'], twin['train_cfg']
    assert found == twin


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name,
            # Of a method with its own settings, the first.
            marks=[]
            if re.fullmatch('lw-resnet18_cifar10_[a-z]+', name)
            else pytest.mark.slow,
        )
        for name in CIFAR
    ],
)
def test_model_is_built(name, monkeypatch):
    cfg = load(f'layerwise/{name}')
    init_default_scope(cfg.default_scope)
    model = cfg.model
    model.data_preprocessor = cfg.data_preprocessor
    linspace = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', linspace)
    with torch.device('meta'):
        backbone = MODELS.build(model).backbone
    net = re.search('resnet18|resnet50|vgg11b', name)[0]
    layers = 1 if name.endswith('_e2e') else LAYERS[net]
    assert backbone.num_modules == layers
    assert len(backbone.local_heads) == layers - 1 + backbone.local_end
    if name.endswith('resnet18_cifar10_ce'):
        for head in backbone.local_heads:
            count = sum(weight.numel() for weight in head.parameters())
            assert count == 20_490
    if '_supcon_e2e' not in name and layers < 17:
        check_isolation(backbone)


def check_isolation(backbone):
    """No weight lies behind the outputs of two modules; each has some."""
    features = []

    def cut(index, feat):
        features.append(feat)
        return feat.detach()

    cuts = [backbone.crossings[name] for name in backbone.boundaries]
    images = torch.zeros(2, *backbone.input_shape, device='meta')
    features += cut_forward(backbone.backbone, cuts, (images,), cut)
    owners = [weights_behind(feature) for feature in features]
    assert len(owners) == backbone.num_modules and all(owners)
    assert len(set.union(*owners)) == sum(map(len, owners))
    assert set.union(*owners) == set(map(id, backbone.backbone.parameters()))


def weights_behind(feat):
    found, seen, stack = set(), set(), [feat.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, 'variable'):
            found.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return found


SHORT = [name for name in NAMES if '_shapes_' in name]


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name,
            marks=[]
            if name in ('resnet20_shapes_supcon', 'deeplabv3_r18_shapes_ce')
            else pytest.mark.slow,
        )
        for name in SHORT
    ],
)
@pytest.mark.slow
def test_short_run(name, tmp_path):
    """Trains and validates; each block is trained, and learns to be read."""
    cfg = deepcopy(load(f'layerwise/{name}'))
    for key in 'train_dataloader', 'val_dataloader':
        cfg[key].num_workers = 0
        cfg[key].persistent_workers = False
        cfg[key].dataset.num_images = 8
    cfg.train_dataloader.batch_size = 4
    if 'deeplab' in name:
        cfg.model.backbone.backbone.update(stem_channels=8, base_channels=8)
        cfg.model.decode_head.update(in_channels=64, channels=8)
        cfg.train_cfg.update(max_iters=2, val_interval=2)
        cfg.custom_hooks = cfg.custom_hooks[:1]
        layers, metric = 9, 'mIoU'
    else:
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
        cfg.model.backbone.backbone.depth = 8
        cfg.model.backbone.local_heads.max_features = 64
        layers, metric = 4, 'accuracy/top1'
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    before = deepcopy(runner.model.state_dict())
    runner.train()
    after = runner.model.state_dict()
    heads = runner.model.backbone.local_heads
    assert len(heads) == layers
    for index in range(layers):
        key = f'backbone.local_heads.{index}.'
        weights = [n for n in after if n.startswith(key)]
        assert weights
        for weight in weights:
            assert not torch.equal(before[weight], after[weight]), weight
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    # The last module is read by the model's own head, if by no other.
    assert f'module_{layers}/{metric}: ' in text
    has_classifier = heads[0].net is not None
    assert (f'module_1/{metric}: ' in text) == has_classifier


@pytest.mark.parametrize(
    'name',
    [
        'e2e/lw-resnet18_cifar10',
        *(f'layerwise/lw-resnet18_cifar10_{loss}' for loss in LOSSES),
        'layerwise/lw-resnet18_cifar10_ce_sequential',
        'layerwise/lw-resnet18_cifar10_dgl',
        'layerwise/lw-resnet18_cifar10_infopro',
        'sigprop/sp_soft_r18_c10',
        'sigprop/sp_hard_r18_c10',
    ],
)
def test_settings_of_the_comparison(name, tmp_path):
    """They reach the net wherever it is, and fit the loop."""
    settings = ROOT.parent / 'benchmarks/settings/cifar10_layerwise.py'
    leaf = tmp_path / 'leaf.py'
    path = str(ROOT / f'{name}.py')
    leaf.write_text(f'_base_ = [{path!r}]\n{settings.read_text()}')
    cfg = Config.fromfile(leaf)
    backbone = cfg.model.backbone
    net = backbone.get('backbone', backbone)
    kind = 'SigProp' if name.startswith('sigprop') else 'Layerwise'
    assert net.type == f'mmlocal.{kind}ResNet'
    assert 8 * net.base_channels == cfg.model.head.in_channels == 128
    lengths = {'max_epochs': 2}
    if name.endswith('_sequential'):
        lengths = {'epochs': 1, 'head_epochs': 1}
    for key in 'max_epochs', 'epochs', 'head_epochs':
        assert cfg.train_cfg.get(key) == lengths.get(key)
    is_layerwise = name.startswith('layerwise/') and (
        backbone.local_heads.type == 'mmlocal.LayerwiseHead'
    )
    heads = backbone.get('local_heads', {})
    assert heads.get('max_features') == (512 if is_layerwise else None)
    assert cfg.optim_wrapper.optimizer == {'type': 'Adam', 'lr': 5e-4}
