"""Configs of Greedy InfoMax for audio, against the published settings."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmlocal.config_check import check_config

ROOT = Path(__file__).parents[1] / 'configs/gim_audio'
NAMES = sorted(path.stem for path in ROOT.glob('*.py'))
PUBLISHED = [name for name in NAMES if name.endswith('librispeech')]
SHORT = [name for name in NAMES if name.endswith('formants')]


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def load_short(name: str) -> Config:
    """Boundaries are looked for on a waveform of four frames."""
    cfg = load(name)
    if 'input_shape' in cfg.model.backbone:
        cfg.model.backbone.input_shape = (1, 640)
    return cfg


def build(name: str):
    cfg = load_short(name)
    init_default_scope(cfg.default_scope)
    model = deepcopy(cfg.model)
    model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(model)


def modules_of(name: str) -> int:
    if name.startswith('cpc'):
        return 1
    return int(name.split('_')[1][1:])


@pytest.mark.parametrize('name', NAMES)
def test_model_is_built_and_nothing_is_mistyped(name):
    check_config(load(name))
    model = build(name)
    if name.startswith('e2e'):
        assert not hasattr(model.backbone, 'local_heads')
        return
    backbone = model.backbone
    assert backbone.num_modules == modules_of(name)
    kinds = {type(head).__name__ for head in backbone.local_heads}
    if name.startswith('greedy'):
        phones = 'phones' in name
        assert kinds == {'TaskHead' if phones else 'GreedyHead'}
        assert len(backbone.local_heads) == 5
        for head in backbone.local_heads:
            own = head.head if phones else head
            assert own.num_classes == model.head.num_classes
        return
    assert kinds == {'SequenceInfoNCEHead'}
    assert len(backbone.local_heads) == modules_of(name)
    contexts = [head.context is not None for head in backbone.local_heads]
    every = 'autoregressive' in name
    assert contexts == [every] * (len(contexts) - 1) + [False]
    nets = [backbone.autoregressor]
    nets += [head.context for head in backbone.local_heads if head.context]
    assert {net.bptt for net in nets} == {'no-bptt' not in name}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_settings(name):
    cfg = load(name)
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.train_dataloader.drop_last
    assert cfg.optim_wrapper.optimizer == {'type': 'Adam', 'lr': 2e-4}
    assert cfg.train_cfg.max_epochs == 1000
    process = cfg.data_preprocessor
    assert process.mean * 2**31 == -1456218.75
    assert process.std * 2**31 == 135303504.0
    head = cfg.model.head
    assert head.num_classes == (41 if 'phones' in name else 251)
    if name.startswith(('gim', 'cpc')):
        for head in build(name).backbone.local_heads:
            assert (head.num_steps, head.num_negatives) == (12, 10)
            assert (head.sampler, head.window) == ('permutation', 128)
            assert head.channels == 512


def test_each_short_config_has_a_long_one():
    assert {name.replace('formants', 'librispeech') for name in SHORT} <= {
        *PUBLISHED
    }


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if 'gim' in name else pytest.mark.slow)
        for name in SHORT
    ],
)
@pytest.mark.slow
def test_short_run(name, tmp_path):
    """Two iterations, a validation, a checkpoint."""
    cfg = load_short(name)
    for split, count in ('train', 4), ('val', 2):
        cfg[f'{split}_dataloader'].dataset.num_utterances = count
        cfg[f'{split}_dataloader'].batch_size = 2
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    metric = 'frames/accuracy' if 'phones' in name else 'accuracy/top1'
    assert metric in text and list(tmp_path.glob('epoch_1.pth'))
    if name == 'greedy_k6_speakers_formants':
        for index in range(1, 7):
            assert f'module_{index}/accuracy/top1' in text
    if name.startswith(('gim', 'cpc')):
        hub = runner.message_hub.log_scalars
        last = modules_of(name) - 1
        loss = hub[f'train/local_{last}.loss_nce'].current()
        assert loss == pytest.approx(math.log(11), abs=0.02)
