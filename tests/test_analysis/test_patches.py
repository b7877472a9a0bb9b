"""Probes of networks that see an image as patches."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmlocal.analysis import Extractor, Source, Taps, measure_modules
from mmlocal.analysis.forms import pooled
from mmlocal.analysis.linear_probe import LinearProbe
from mmlocal.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
CUTS = ['backbone.stages.1', 'backbone.stages.2']


@pytest.fixture
def cfg(shapes_cfg):
    """Greedy InfoMax on 40 drawn images of 24 pixels, 5x5 patches."""
    found = Config.fromfile(CONFIGS / 'gim/resnet8_cifar10.py')
    found.model.backbone.backbone.backbone.base_channels = 4
    found.model.backbone.local_heads.num_steps = 2
    found.model.backbone.input_shape = (3, 24, 24)
    found.model.neck.grid = 5
    found.model.head.update(num_classes=5, in_channels=16)
    for split in 'train', 'val':
        found[f'{split}_dataloader'] = shapes_cfg[f'{split}_dataloader']
    return found


@pytest.fixture
def model(cfg):
    init_default_scope('mmpretrain')
    cfg.model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(cfg.model)


def test_a_feature_is_the_mean_over_patches(model):
    images = torch.randn(2, 3, 24, 24)
    feats = Taps(model)(images)
    sides = [8, 4, 2]
    assert [feat.shape for feat in feats] == [
        (2 * 25, 4 * 2**i, side, side) for i, side in enumerate(sides)
    ]
    for feat in feats:
        by_image = feat.view(2, 25, *feat.shape[1:])
        torch.testing.assert_close(
            pooled(feat, images), by_image.mean((1, 3, 4))
        )


@pytest.mark.parametrize(
    'settings', [{'weight_decay': 0.1}, {'protocol': 'gim', 'epochs': 2}]
)
@pytest.mark.slow
def test_probes_of_all_modules(cfg, model, tmp_path, settings):
    extractor = Extractor(model, Taps(model), Source(cfg), tmp_path)
    values = measure_modules([LinearProbe(**settings)], extractor)
    accuracies = values['probe']['accuracy']
    assert len(accuracies) == 3
    assert all(0 <= each <= 100 for each in accuracies)


def test_an_uncut_model_is_cut_by_name(model):
    plain = nn.Module()
    plain.backbone = model.backbone.backbone
    images = torch.randn(2, 3, 24, 24)
    found = zip(Taps(plain, CUTS)(images), Taps(model)(images), strict=True)
    assert all(torch.equal(first, second) for first, second in found)
