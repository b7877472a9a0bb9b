"""A small classifier and its data."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmlocal.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='session')
def _shapes_cfg():
    return Config.fromfile(CONFIGS / 'greedy/resnet20_shapes.py')


@pytest.fixture
def shapes_cfg(_shapes_cfg):
    """ResNet-8 in two modules on 40 drawn images."""
    cfg = deepcopy(_shapes_cfg)
    cfg.model.backbone.backbone.depth = 8
    for split in 'train', 'val', 'test':
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=16, num_workers=0, persistent_workers=False)
        loader.dataset.num_images = 40
    return cfg


@pytest.fixture
def shapes_model(shapes_cfg):
    """Of that config."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    cfg = deepcopy(shapes_cfg)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(cfg.model)
