"""A small classifier in three modules, trained through the Runner."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmlocal.engine.loops.replay.replayed import Replayed


class Items(Dataset):
    """The items of one batch of the helpers."""

    metainfo = {'classes': [str(i) for i in range(10)]}

    def __init__(self, batch):
        self.items = [
            {'inputs': image, 'data_samples': sample}
            for image, sample in zip(*batch.values(), strict=True)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Recorder(Hook):
    """Keeps what each tick trained and logged."""

    priority = 'LOWEST'

    def __init__(self):
        self.ticks: list[dict[str, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        found = {k: v.item() for k, v in runner.optim_wrapper.step_log.items()}
        found |= {key: value.item() for key, value in outputs.items()}
        self.ticks.append(found)


class StopAfter(Hook):
    """Ends a run at an iteration, after the checkpoint."""

    priority = 'LOWEST'

    def __init__(self, iters):
        self.iters = iters

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 == self.iters:
            raise KeyboardInterrupt


def settings(helpers, work_dir, **train_cfg) -> dict:
    """Of a Runner."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        'boundaries': ['layer2.0', 'layer3.0'],
        'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 10},
        'input_shape': (3, 32, 32),
    }
    items = Items(helpers.classification_batch(size=16))
    return {
        'model': helpers.classifier_cfg(backbone, 64),
        'work_dir': str(work_dir),
        'default_scope': 'mmpretrain',
        'train_dataloader': {
            'batch_size': 4,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': items,
        },
        'train_cfg': {
            'type': 'mmlocal.ReplayTrainLoop',
            'max_epochs': 3,
            **train_cfg,
        },
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {
                'type': 'SGD',
                'lr': 0.05,
                'momentum': 0.9,
                'weight_decay': 0.01,
            },
        },
        'param_scheduler': [
            {'type': 'MultiStepLR', 'milestones': [1, 2], 'gamma': 0.5}
        ],
        'custom_hooks': [{'type': 'mmlocal.LocalLossHook'}],
        'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
        'randomness': {'seed': 3},
        'experiment_name': str(work_dir),
    }


def run(cfg, name, /, *hooks, **changes):
    """A run, which may be interrupted, and what its ticks logged."""
    cfg = deepcopy({**cfg, **changes})
    cfg['experiment_name'] += name
    recorder = Recorder()
    cfg['custom_hooks'] += [recorder, *hooks]
    runner = Runner(**cfg)
    with suppress(KeyboardInterrupt):
        runner.train()
    return runner, recorder.ticks


def text(runner) -> str:
    """The log of a run."""
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        return file.read()


@pytest.fixture
def cfg(helpers, tmp_path):
    return settings(helpers, tmp_path)


@pytest.fixture
def replay():
    """The functions of this file, for tests."""

    class Replay:
        Items: type = Items
        Recorder: type = Recorder
        StopAfter: type = StopAfter
        Replayed: type = Replayed
        settings: Callable = staticmethod(settings)
        run: Callable = staticmethod(run)
        text: Callable = staticmethod(text)

    return Replay


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)
