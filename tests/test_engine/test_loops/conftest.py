"""Short runs of a small network."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from itertools import count

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

NUMBERS = count()


class Images(torch.utils.data.Dataset):
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
        return deepcopy(self.items[index])


class Recorder(Hook):
    """Keeps losses, learning rates and whatever a function sees."""

    priority = 'VERY_LOW'

    def __init__(self, look=None):
        self.losses, self.rates, self.seen, self.look = [], [], [], look

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])
        if self.look is not None:
            self.seen.append(self.look(runner))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        scalars = runner.message_hub.log_scalars
        keys = [key for key in scalars if 'loss' in key]
        values = {key: scalars[key].current() for key in keys}
        values['loss'] = outputs['loss'].item()
        self.losses.append(values)


class StopBehind(Hook):
    """Ends a run, as a signal would, when all else is done."""

    priority = 'LOWEST'

    def __init__(self, epochs=None, iters=None):
        self.epochs, self.iters = epochs, iters

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epochs:
            raise KeyboardInterrupt

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 == self.iters:
            raise KeyboardInterrupt


def settings(helpers, work_dir):
    """Three modules, four iterations an epoch, two epochs each."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        'boundaries': ['layer2.0', 'layer3.0'],
        'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 10},
        'input_shape': (3, 32, 32),
    }
    return {
        'model': helpers.classifier_cfg(backbone, 64),
        'work_dir': str(work_dir),
        'default_scope': 'mmpretrain',
        'train_dataloader': {
            'batch_size': 2,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': Images(helpers),
        },
        'train_cfg': {'type': 'mmlocal.SequentialTrainLoop', 'epochs': 2},
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {
                'type': 'SGD',
                'lr': 0.1,
                'momentum': 0.9,
                'weight_decay': 0.01,
            },
        },
        'param_scheduler': [
            {'type': 'CosineAnnealingLR', 'convert_to_iter_based': True}
        ],
        'custom_hooks': [{'type': 'mmlocal.LocalLossHook'}],
        'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
        'randomness': {'seed': 3},
    }


def by_iteration(cfg, iters=8):
    """The same run, counted in iterations."""
    cfg['train_cfg'] = {
        'type': 'mmlocal.SequentialIterTrainLoop',
        'iters': iters,
    }
    cfg['train_dataloader']['sampler']['type'] = 'InfiniteSampler'
    cfg['param_scheduler'] = [{'type': 'CosineAnnealingLR', 'by_epoch': False}]
    cfg['default_hooks']['checkpoint'] = {
        'type': 'CheckpointHook',
        'by_epoch': False,
        'interval': 1,
    }
    return cfg


def train(base, look=None, stop=None, build=Runner, **changes):
    """Run a config.

    Returns:
        tuple[Runner, Recorder]: Even if ``stop`` has ended it.
    """
    settings = deepcopy({**base, **changes})
    settings['experiment_name'] = f'run{next(NUMBERS)}'
    recorder = Recorder(look)
    settings['custom_hooks'] += [recorder]
    if stop is not None:
        settings['custom_hooks'] += [StopBehind(**stop)]
    runner = build(**settings)
    with suppress(KeyboardInterrupt):
        runner.train()
    return runner, recorder


@pytest.fixture
def cfg(helpers, tmp_path):
    """Of a small run."""
    return settings(helpers, tmp_path / 'run')


@pytest.fixture(scope='module')
def once():
    """Calls a function once for each key; a file shares what it returns."""
    found = {}

    def call(key, function, *args, **kwargs):
        if key not in found:
            found[key] = function(*args, **kwargs)
        return found[key]

    return call


@pytest.fixture
def loops():
    """The functions of this file, for tests."""

    class Loops:
        train = staticmethod(train)
        by_iteration = staticmethod(by_iteration)
        StopBehind = StopBehind
        Images = Images

    return Loops
