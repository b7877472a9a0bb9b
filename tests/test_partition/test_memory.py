"""Splits that are planned when a Runner builds the model."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmlocal.models.cut_points import CutPoints
from mmlocal.partition import MemoryBalanced, MemoryBudget
from mmlocal.partition.memory import FILE
from mmlocal.planner import Planner, Setting, Simulator
from mmlocal.registry import MODELS

SHAPE = (3, 32, 32)


@pytest.fixture
def cfg(helpers):
    """As much of a config as a Runner needs to build the model."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 14},
        'boundaries': {'type': 'mmlocal.MemoryBalanced', 'num_modules': 3},
        'local_heads': {'type': 'mmlocal.InfoProHead', 'num_classes': 10},
        'input_shape': SHAPE,
    }
    return Config(
        {
            'default_scope': 'mmpretrain',
            'model': helpers.classifier_cfg(backbone, 64),
            'optim_wrapper': {
                'type': 'mmlocal.LocalOptimWrapper',
                'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9},
            },
            'train_dataloader': {
                'batch_size': 16,
                'num_workers': 0,
                'dataset': {
                    'type': 'mmlocal.ShapesCls',
                    'image_size': (32, 32),
                    'num_images': 16,
                },
                'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            },
            'train_cfg': {'by_epoch': True, 'max_epochs': 1},
            'randomness': {'seed': 0},
        }
    )


def run(cfg, work_dir):
    cfg = deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    return Runner.from_cfg(cfg)


def test_planned_once_a_run(cfg, tmp_path, monkeypatch):
    """The plan is the planner's, is kept, and leaves the weights alone."""
    first = run(cfg, tmp_path).model
    planner = Planner(Simulator(Setting(cfg)))
    expected = planner.balanced(3).split
    assert first.backbone.boundaries == list(expected.boundaries)
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept['split']['boundaries'] == list(expected.boundaries)
    assert kept['peak'] == planner.balanced(3).peak

    def fail(*args):
        raise AssertionError('planned again')

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBalanced, 'plan', fail)
        again = run(cfg, tmp_path).model
    assert again.backbone.boundaries == first.backbone.boundaries
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    cfg.train_dataloader.batch_size = 32
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBalanced, 'plan', fail)
        with pytest.raises(AssertionError, match='planned again'):
            run(cfg, tmp_path)


def test_a_budget_chooses_checkpointing_too(cfg, tmp_path):
    cfg.model.backbone.boundaries = {
        'type': 'mmlocal.MemoryBudget',
        'budget': 0.6,
    }
    model = run(cfg, tmp_path).model
    planner = Planner(Simulator(Setting(cfg)))
    found, fits = planner.within(int(0.6 * planner.end_to_end.peak))
    assert fits
    assert model.backbone.boundaries == list(found.split.boundaries)
    checkpointed = [
        block
        for block in model.backbone.backbone.modules()
        if 'forward' in vars(block)
    ]
    assert bool(checkpointed) == any(found.split.checkpointing)


def test_what_cannot_be_planned(cfg, tmp_path):
    cfg.model.backbone.boundaries = {
        'type': 'mmlocal.MemoryBudget',
        'budget': '1MiB',
    }
    with pytest.raises(ValueError, match='nothing fits into budget=.1MiB'):
        run(cfg, tmp_path)
    cfg.model.backbone.boundaries.budget = 'small'
    with pytest.raises(ValueError, match="'small' is no size"):
        run(cfg, tmp_path)
    with pytest.raises(ValueError, match="'all' is unknown"):
        MemoryBalanced(2, checkpointing='all')


def test_without_a_runner_the_config_is_asked_for(cfg):
    points = CutPoints(MODELS.build(cfg.model.backbone.backbone), SHAPE)
    with pytest.raises(ValueError, match='needs the whole config'):
        MemoryBalanced(2)(points)
    by_config = MemoryBalanced(2, config=cfg.to_dict())(points)
    planner = Planner(Simulator(Setting(cfg)))
    assert list(by_config.boundaries) == list(
        planner.balanced(2).split.boundaries
    )
    assert MemoryBudget(1.0, config=cfg.to_dict())(points).boundaries == []
