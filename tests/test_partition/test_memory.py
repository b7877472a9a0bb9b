"""Splits that are planned before a Runner builds the model."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner

import mmlocal
from mmlocal.engine.runner import LocalRunner
from mmlocal.models.cut_points import CutPoints
from mmlocal.partition import MemoryBalanced, MemoryBudget
from mmlocal.partition.memory import FILE
from mmlocal.planner import Planner, Simulator, TrainingSetting
from mmlocal.registry import MODELS

SHAPE = (3, 32, 32)


@pytest.fixture
def cfg(helpers):
    """As much of a config as a Runner needs to build the model."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
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
    return LocalRunner.from_cfg(cfg)


@pytest.mark.slow
def test_planned_once_a_run(cfg, tmp_path, monkeypatch):
    """The plan is the planner's, is kept, and leaves the weights alone."""
    first = run(cfg, tmp_path).model
    planner = Planner(Simulator(TrainingSetting(cfg)))
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


@pytest.mark.slow
def test_a_budget_chooses_checkpointing_too(cfg, tmp_path):
    cfg.model.backbone.backbone.depth = 14
    cfg.model.backbone.boundaries = {
        'type': 'mmlocal.MemoryBudget',
        'budget': 0.6,
    }
    model = run(cfg, tmp_path).model
    planner = Planner(Simulator(TrainingSetting(cfg)))
    found, fits = planner.within(int(0.6 * planner.end_to_end.peak))
    assert fits
    assert model.backbone.boundaries == list(found.split.boundaries)
    checkpointed = [
        block
        for block in model.backbone.backbone.modules()
        if 'forward' in vars(block)
    ]
    assert bool(checkpointed) == any(found.split.checkpointing)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_plan_chooses_checkpointing(cfg, tmp_path):
    cfg.model.backbone.checkpointing = 'block'
    with pytest.raises(ValueError, match='for MemoryBalanced to choose: rem'):
        run(cfg, tmp_path)
    cfg.model.backbone.boundaries.checkpointing = 'block'
    cfg.model.backbone.checkpointing = None
    assert run(cfg, tmp_path).cfg.model.backbone.checkpointing == ['block'] * 3


@pytest.mark.slow
def test_everything_after_has_the_cuts(cfg, tmp_path):
    """What is dumped, logged, recorded and kept in checkpoints."""
    cfg.vis_backends = [{'type': 'LocalVisBackend'}]
    cfg.visualizer = {'type': 'Visualizer', 'vis_backends': cfg.vis_backends}
    runner = run(cfg, tmp_path)
    (record,) = tmp_path.glob('*/vis_data/config.py')
    for path in (tmp_path / f'{runner.timestamp}.py', record):
        dumped = Config.fromfile(path)
        backbone = dumped.model.backbone
        assert backbone.boundaries == runner.model.backbone.boundaries
        assert backbone.checkpointing == [None, None, None]
    (log,) = tmp_path.glob('*/*.log')
    assert 'MemoryBalanced' not in log.read_text()
    assert 'MemoryBalanced' not in runner.cfg.pretty_text
    assert cfg.model.backbone.boundaries.type == 'mmlocal.MemoryBalanced'
    # Any Runner takes the dumped config, and initializes alike.
    dumped.work_dir = str(tmp_path / 'again')
    dumped.experiment_name = f'{tmp_path.name}_again'
    again = Runner.from_cfg(dumped).model
    for name, value in runner.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.slow
def test_a_config_names_the_runner(cfg, tmp_path):
    """As the tools of mmseg and mmpretrain read it; scope and class, too."""
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = tmp_path.name
    cfg.runner_type = 'mmlocal.LocalRunner'
    cfg.model.backbone.boundaries.type = MemoryBalanced
    runner = RUNNERS.build(cfg)
    assert isinstance(runner, LocalRunner)
    kept = json.loads((tmp_path / FILE).read_text())
    assert runner.cfg.model.backbone.boundaries == kept['split']['boundaries']


@pytest.mark.slow
def test_test_time_augmentation_recalls_the_plan(cfg, tmp_path, monkeypatch):
    first = run(cfg, tmp_path)
    monkeypatch.setattr(MemoryBalanced, 'plan', None)
    cfg.model = ConfigDict(
        type='AverageClsScoreTTA', _scope_='mmpretrain', module=cfg.model
    )
    augmented = run(cfg, tmp_path)
    expected = first.model.backbone.boundaries
    assert augmented.model.module.backbone.boundaries == expected
    assert augmented.cfg.model.module.backbone.boundaries == expected


def test_other_partitions_stay_in_the_config(cfg, tmp_path):
    partition = {'type': 'mmlocal.EqualDepth', 'num_modules': 2}
    cfg.model.backbone.boundaries = ConfigDict(partition)
    runner = run(cfg, tmp_path)
    assert runner.cfg.model.backbone.boundaries == partition
    assert len(runner.model.backbone.boundaries) == 1
    assert not (tmp_path / FILE).exists()


def test_without_the_runner_it_is_said_what_to_write(cfg, tmp_path):
    message = "runner_type='mmlocal.LocalRunner'.*in its work dir"
    with pytest.raises(ValueError, match=message):
        mmlocal.get_model(cfg, pretrained=False, local_heads=True)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = tmp_path.name
    with pytest.raises(ValueError, match=message):
        Runner.from_cfg(cfg)
    # Without a config to read, that of the model does not suffice.
    with (
        DefaultScope.overwrite_default_scope('mmpretrain'),
        pytest.raises(ValueError, match=message),
    ):
        LocalRunner(
            cfg.model, cfg.work_dir, experiment_name=f'{tmp_path.name}_2'
        )
    # The plain model has no cuts to plan.
    plain = mmlocal.get_model(cfg, pretrained=False)
    assert not hasattr(plain.backbone, 'boundaries')


@pytest.mark.slow
def test_the_config_may_be_given_by_hand(cfg, tmp_path):
    points = CutPoints(MODELS.build(cfg.model.backbone.backbone), SHAPE)
    by_config = MemoryBalanced(2, config=cfg.to_dict())(points)
    planner = Planner(Simulator(TrainingSetting(cfg)))
    expected = list(planner.balanced(2).split.boundaries)
    assert list(by_config.boundaries) == expected
    assert MemoryBudget(1.0, config=cfg.to_dict())(points).boundaries == []
    path = tmp_path / 'config.py'
    cfg.dump(path)
    cfg.model.backbone.boundaries.num_modules = 2
    cfg.model.backbone.boundaries.config = str(path)
    model = mmlocal.get_model(cfg, pretrained=False, local_heads=True)
    assert model.backbone.boundaries == expected
