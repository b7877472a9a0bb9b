"""Configs of Greedy InfoMax on images, against the published settings."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope

from mmlocal.config_check import check_config

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'gim').glob('*.py'))
# The others differ in what trains when.
BUILT = [n for n in NAMES if not n.endswith(('sequential', 'cached', 'probe'))]
CUTS = ['backbone.stages.1', 'backbone.stages.2']
# With the model's own head, a linear layer on the pooled last feature.
PARAMETERS = {
    'resnet50_stl10': 15_401_472 + 10_250,
    'resnet50_stl10-rgb': 15_404_672 + 10_250,
    'resnet34_stl10': 223_232 + 1_115_264 + 6_819_072 + 430_080 + 2_570,
    # Without what the published one does not train: W_k of the encoder, and
    # the last vertical residual.
    'resnet50_stl10_cpc': 148_016_640 - 5_242_880 - 2_099_200 + 10_250,
    'resnet50_stl10_e2e': 8_520_192 + 5_242_880 + 10_250,
    'resnet50_stl10_greedy': 8_520_192 + 2_570 + 5_130 + 10_250,
}


def load(name: str) -> Config:
    folder = 'e2e' if name.startswith('gim-') else 'gim'
    return Config.fromfile(ROOT / folder / f'{name}.py')


@pytest.mark.parametrize('name', NAMES)
def test_nothing_is_mistyped(name):
    check_config(load(name))


@pytest.mark.parametrize('name', BUILT)
def test_model_is_built(name, monkeypatch):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    model = deepcopy(cfg.model)
    model.data_preprocessor = cfg.data_preprocessor
    # mmpretrain's ResNet reads the numbers of a linspace.
    linspace = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', linspace)
    with torch.device('meta'):
        model = MODELS.build(model).eval()
    total = sum(p.numel() for p in model.parameters())
    assert total == PARAMETERS.get(name, total)
    backbone = model.backbone
    whole = name.endswith(('_cpc', '_e2e'))
    assert backbone.num_modules == (1 if whole else 3)
    greedy = name.endswith('_greedy')
    assert len(backbone.local_heads) == backbone.num_modules - greedy
    assert {h.boundary.patches for h in backbone.local_heads} == {49}
    channels, *_ = backbone.input_shape
    shape = (2, channels, *backbone.input_shape[1:])
    feats = model.extract_feat(torch.empty(shape, device='meta'))
    assert feats[0].shape == (2, model.head.in_channels)
    assert len(cfg.data_preprocessor.mean) == channels


def test_the_published_counts_are_compared():
    assert {*PARAMETERS} <= {*NAMES}


@pytest.mark.parametrize('data', ['resnet8_cifar10', 'resnet50_stl10'])
@pytest.mark.parametrize('kind', ['', '_greedy'])
def test_only_four_places_differ_from_end_to_end(data, kind):
    local = load(f'{data}{kind}').to_dict()
    plain = load(f'gim-{data}').to_dict()
    wrapper = local['model'].pop('backbone')
    assert wrapper['type'] == 'mmlocal.LocalSupervisedBackbone'
    assert wrapper['backbone'] == plain['model'].pop('backbone')
    assert wrapper['boundaries'] == CUTS
    assert local.pop('custom_hooks') == [{'type': 'mmlocal.LocalLossHook'}]
    assert 'Distributed' in local.pop('model_wrapper_cfg')['type']
    optimizers = [cfg.pop('optim_wrapper') for cfg in (local, plain)]
    assert optimizers[0].pop('type') == 'mmlocal.LocalOptimWrapper'
    assert optimizers[0]['optimizer'] == optimizers[1]['optimizer']
    if (data, kind) == ('resnet50_stl10', ''):
        split = local['train_dataloader']['dataset'].pop('split')
        assert split == 'unlabeled'
        assert plain['train_dataloader']['dataset'].pop('split') == 'train'
        # Never, since nothing has labels.
        assert local['train_cfg'].pop('val_begin') > 300
    assert local == plain


def test_published_settings():
    cfg = load('resnet50_stl10')
    head = cfg.model.backbone.local_heads
    assert head == {'type': 'mmlocal.PatchInfoNCEHead'}
    assert cfg.optim_wrapper.optimizer == {'type': 'Adam', 'lr': 2e-4}
    assert cfg.get('param_scheduler') is None
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.batch_size == 32
    for found, mean, std in (
        (cfg, [0.4120], [0.2570]),
        (
            load('resnet50_stl10-rgb'),
            [0.4313, 0.4156, 0.3663],
            [0.2683, 0.2610, 0.2687],
        ),
    ):
        preprocessor = found.data_preprocessor
        for key, values in ('mean', mean), ('std', std):
            expected = [255 * value for value in values]
            assert preprocessor[key] == pytest.approx(expected)
        pipeline = found.train_dataloader.dataset.pipeline
        kinds = [each.type for each in pipeline]
        grey = ['RandomGrayscale'] * (len(mean) == 1)
        assert kinds == ['RandomCrop', 'RandomFlip', *grey, 'PackInputs']
        assert pipeline[0].crop_size == 64 and 'padding' not in pipeline[0]
        first, *_ = found.val_dataloader.dataset.pipeline
        assert (first.type, first.crop_size) == ('CenterCrop', 64)


def test_grey_images():
    """As Pillow's mode L, up to rounding."""
    cfg = load('resnet50_stl10')
    init_default_scope(cfg.default_scope)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    pipeline = Compose(cfg.val_dataloader.dataset.pipeline)
    found = pipeline({'img': image.copy(), 'gt_label': 0})['inputs']
    assert found.shape == (1, 64, 64)
    from PIL import Image

    expected = np.asarray(Image.fromarray(image).convert('L'))[16:80, 16:80]
    assert np.abs(found[0].numpy().astype(int) - expected).max() <= 1


def test_probe_of_the_last_module():
    """Published: 300 epochs of Adam at 1e-3, on augmented images."""
    found = load('resnet50_stl10_probe').to_dict()
    twin = load('resnet50_stl10').to_dict()
    assert found['train_dataloader']['dataset'].pop('split') == 'train'
    twin['train_dataloader']['dataset'].pop('split')
    assert found['optim_wrapper'].pop('optimizer') == {
        'type': 'Adam',
        'lr': 1e-3,
    }
    twin['optim_wrapper'].pop('optimizer')
    loop = found.pop('train_cfg')
    twin.pop('train_cfg')
    assert loop == {
        'type': 'mmlocal.SequentialTrainLoop',
        'epochs': 0,
        'head_epochs': 300,
        'val_interval': 10,
    }
    assert found == twin


@pytest.mark.parametrize('data', ['resnet8_cifar10', 'resnet50_stl10'])
def test_modules_one_after_another(data):
    found, twin = (load(f'{data}{end}') for end in ('_sequential', ''))
    loop = found.pop('train_cfg')
    assert loop.type == 'mmlocal.SequentialTrainLoop'
    assert loop.epochs == twin.pop('train_cfg').max_epochs
    assert found.to_dict() == twin.to_dict()
