"""Measuring during training."""

import json
from copy import deepcopy
from unittest.mock import Mock

import pytest
import torch
from mmengine.hooks import Hook

from mmlocal.analysis.hook import ModuleMeasureHook
from mmlocal.engine.runner import LocalRunner

MEASURES = [
    {'type': 'NHSICPlane', 'm': 10, 'num_batches': 2},
    {'type': 'CKA', 'num_images': 20, 'split': 'train'},
]
MEASURING = {'type': 'mmlocal.ModuleMeasureHook', 'measures': MEASURES}


class Losses(Hook):
    """Keeps the loss of each iteration."""

    def __init__(self):
        self.found = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.found.append(outputs['loss'].item())


@pytest.fixture
def train(shapes_cfg, tmp_path):
    """Train two epochs with further hooks."""

    def run(name, *hooks, **settings):
        cfg = deepcopy(shapes_cfg)
        cfg.work_dir = str(tmp_path / name)
        cfg.experiment_name = f'{tmp_path.name}_{name}'
        cfg.train_cfg.max_epochs = 2
        cfg.custom_hooks = [*cfg.custom_hooks, *hooks]
        cfg.merge_from_dict(settings)
        runner = LocalRunner.from_cfg(cfg)
        losses = Losses()
        runner.register_hook(losses)
        runner.train()
        return runner, losses.found, tmp_path / name / 'measures.json'

    return run


@pytest.mark.slow
def test_training_does_not_notice_and_values_are_kept(train):
    plain, expected, _ = train('plain')
    measured, losses, path = train('measured', MEASURING)
    assert losses == expected
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, measured.model.state_dict()[key]), key

    entries = json.loads(path.read_text())['entries']
    assert [entry['epoch'] for entry in entries] == [0, 1, 2]
    assert [entry['iter'] for entry in entries] == [0, 3, 6]
    for entry in entries:
        assert len(entry['measures']['nhsic']['x']) == 2
        assert len(entry['measures']['cka']['modules']) == 2

    (scalars,) = path.parent.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    found = {
        line['step']: line['module_2/nhsic/x']
        for line in lines
        if 'module_2/nhsic/x' in line
    }
    assert found == {
        entry['epoch']: entry['measures']['nhsic']['x'][1] for entry in entries
    }


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_file(train):
    *_, path = train('run', MEASURING, **{'train_cfg.max_epochs': 1})
    first = json.loads(path.read_text())['entries']
    train('run', MEASURING, resume=True)
    entries = json.loads(path.read_text())['entries']
    assert [entry['epoch'] for entry in entries] == [0, 1, 2]
    assert entries[:2] == first


@pytest.mark.slow
def test_iterations_are_counted(train):
    hook = {**MEASURING, 'by_epoch': False, 'interval': 4, 'begin': False}
    *_, path = train('run', hook)
    (entry,) = json.loads(path.read_text())['entries']
    assert entry['iter'] == 4


@pytest.mark.slow
def test_too_few_images_are_an_error_before_training(train):
    hook = {
        'type': 'mmlocal.ModuleMeasureHook',
        'measures': [{'type': 'CKA', 'num_images': 41}],
    }
    with pytest.raises(ValueError, match='the data set has 40 images'):
        train('run', hook)


def test_a_sharded_model_is_refused():
    runner = Mock()
    runner.model.is_sharded = True
    hook = ModuleMeasureHook(MEASURES)
    with pytest.raises(ValueError, match='measure_modules'):
        hook.before_train(runner)
