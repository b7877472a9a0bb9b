"""A small training through mmengine's Runner."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn


class ToySet(torch.utils.data.Dataset):
    """Eight images with a class each."""

    metainfo = {'classes': [str(i) for i in range(10)]}

    def __init__(self, helpers):
        batch = helpers.classification_batch(size=8)
        self.items = [
            {'inputs': image, 'data_samples': sample}
            for image, sample in zip(*batch.values(), strict=True)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Recorder(Hook):
    """Keeps every value that reaches the log."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        scalars = runner.message_hub.log_scalars
        keys = [k for k in scalars if 'loss' in k or 'acc' in k]
        self.values.append({key: scalars[key].current() for key in keys})


@pytest.fixture(autouse=True, scope='module')
def _models_are_built_once():
    """Runs of a file that begin alike get copies of one model.

    Alike is the random state, too: weights are what they would be.
    """
    built, build = {}, Runner.build_model

    def build_model(runner: Runner, model: nn.Module | dict) -> nn.Module:
        if isinstance(model, nn.Module):
            return build(runner, model)
        key = str(model), torch.get_rng_state().numpy().tobytes()
        if key not in built:
            built[key] = build(runner, model), torch.get_rng_state()
        model, random = built[key]
        torch.set_rng_state(random)
        return deepcopy(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, 'build_model', build_model)
        yield


@pytest.fixture
def cfg(helpers, tmp_path):
    """Four epochs of two iterations, in three modules."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        'boundaries': ['layer2.0', 'layer3.0'],
        'local_heads': {
            'type': 'mmlocal.InfoProHead',
            'num_classes': 10,
            'recon_weight': (2, 1),
        },
        'input_shape': (3, 32, 32),
    }
    loader = {
        'batch_size': 4,
        'num_workers': 0,
        'collate_fn': {'type': 'default_collate'},
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'dataset': ToySet(helpers),
    }
    return {
        'model': helpers.classifier_cfg(backbone, 64),
        'work_dir': str(tmp_path),
        'default_scope': 'mmpretrain',
        'train_dataloader': loader | {'collate_fn': pack},
        'train_cfg': {'by_epoch': True, 'max_epochs': 4},
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
        },
        'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 4}],
        'custom_hooks': [{'type': 'mmlocal.LocalLossHook'}],
        'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
        'randomness': {'seed': 3},
        'experiment_name': tmp_path.name,
    }


def pack(items):
    return {
        'inputs': torch.stack([item['inputs'] for item in items]),
        'data_samples': [item['data_samples'] for item in items],
    }


@pytest.fixture
def run():
    """Trains a config with some changes; the runner and what was logged."""
    return _run


def _run(settings, name, until=None, resume=False, **changes):
    settings = {**settings, **changes, 'resume': resume}
    settings['experiment_name'] += f'_{name}'
    settings = deepcopy(settings)
    hooks = [Recorder(), *([StopAfter(until)] if until else [])]
    settings['custom_hooks'] += hooks
    runner = Runner(**settings)
    with suppress(KeyboardInterrupt):
        runner.train()
    return runner, hooks[0].values


class StopAfter(Hook):
    """Kills a run at the end of an epoch, after the checkpoint."""

    priority = 'LOWEST'

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epochs:
            raise KeyboardInterrupt
