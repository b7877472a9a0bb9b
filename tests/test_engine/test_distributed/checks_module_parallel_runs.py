"""Whole runs whose ranks train a module each: resume, validation, failure."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from checks_module_parallel import resnet, vit
from conftest import build, classification_batch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner
from worker import PREBUILT, check

from mmlocal.registry import RUNNERS


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        batch = classification_batch(1, seed=index)
        return {key: value[0] for key, value in batch.items()}


class Recorder(Hook):
    """Keeps the losses; ends rank 1, or all, in an iteration."""

    # Behind the checkpoint.
    priority = 'LOWEST'

    def __init__(self, kill: int = -1, stop: int = -1):
        self.losses, self.kill, self.stop = [], kill, stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.kill and runner.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        scalars = runner.message_hub.log_scalars
        self.losses.append(
            {key: scalars[key].current() for key in scalars if 'loss' in key}
        )
        if runner.iter + 1 == self.stop:
            raise KeyboardInterrupt


@METRICS.register_module()
class MeanScore(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [
            sample['pred_score'].square().sum().item()
            for sample in data_samples
        ]

    def compute_metrics(self, results):
        return {'mean': sum(results) / len(results)}


def model(kind: str = 'resnet') -> dict:
    """Three modules: on two ranks, two of them go together."""
    if kind == 'vit':
        return vit('layers.1', 'layers.3')
    cfg = resnet('layer2.0', 'layer3.0')
    cfg['backbone']['local_heads']['net'] = 'linear'
    return cfg


PREBUILT += [model('resnet'), model('vit')]


def run(
    folder: Path,
    steps: int,
    hook: Hook | None = None,
    kind='resnet',
    interval: int = 5,
    **settings,
) -> Runner:
    """Train with momentum, clipping, a schedule and accumulation."""
    ranks = dist.is_initialized()
    loader = {
        'batch_size': 2 if ranks else 4,
        'num_workers': 0,
        'collate_fn': {'type': 'default_collate'},
        'dataset': Images(),
    }
    cfg = {
        'model': ConfigDict(model(kind)),
        'work_dir': str(folder),
        'launcher': 'pytorch' if ranks else 'none',
        'default_scope': 'mmpretrain',
        'experiment_name': f'{folder.name}{time.monotonic_ns()}',
        'log_level': 'ERROR',
        'train_dataloader': {
            **loader,
            'collate_fn': pack,
            'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
        },
        'train_cfg': {'by_epoch': False, 'max_iters': steps},
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
            'clip_grad': {'max_norm': 1.0},
            'accumulative_counts': 2,
        },
        'param_scheduler': [
            {'type': 'CosineAnnealingLR', 'T_max': 20, 'by_epoch': False}
        ],
        'default_hooks': {
            'checkpoint': {
                'type': 'mmlocal.LocalCheckpointHook',
                'by_epoch': False,
                'interval': interval,
            }
        },
        'custom_hooks': [
            {'type': 'mmlocal.LocalLossHook'},
            hook or Recorder(),
        ],
        'model_wrapper_cfg': {'type': 'mmlocal.ModuleParallel', 'stages': 2},
        'randomness': {'seed': 1},
        **settings,
    }
    if settings.get('val_cfg'):
        cfg['val_dataloader'] = {
            **loader,
            'batch_size': 3,
            'collate_fn': pack,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        }
        cfg['val_evaluator'] = {'type': 'MeanScore'}
    wrapper = cfg.pop('model_wrapper_cfg')
    runner = RUNNERS.get('LocalRunner')(
        **cfg, cfg=Config({**_plain(cfg), 'model_wrapper_cfg': wrapper})
    )
    runner.train()
    return runner


def _plain(cfg: dict) -> dict:
    """What a planner reads of it."""
    keys = ('model', 'optim_wrapper', 'default_scope')
    found = {key: cfg[key] for key in keys}
    loader = {'batch_size': cfg['train_dataloader']['batch_size']}
    loader['dataset'] = {'image_size': 32}
    return {**found, 'train_dataloader': loader}


def pack(items: list[dict]) -> dict:
    return {
        'inputs': torch.stack([item['inputs'] for item in items]),
        'data_samples': [item['data_samples'] for item in items],
    }


def weights(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=False)['state_dict']


@check(2)
def module_parallel_runs(rank: int, folder: Path) -> None:
    """Stopped in an accumulation and resumed, as one that was not.

    Resumed by one process too: the checkpoint is whole.
    """
    whole, first, second = Recorder(), Recorder(stop=3), Recorder()
    runner = run(folder / 'whole', 6, whole, 'vit')
    assert type(runner.model).__name__ == 'ModuleParallel'
    assert runner.model.stages.sizes == runner.cfg.model_wrapper_cfg.stages
    assert any(p.is_meta for p in runner.model.module.parameters())
    # The planner's division, without asking it again.
    wrapper = {**runner.cfg.model_wrapper_cfg}
    parts = {'interval': 3, 'model_wrapper_cfg': wrapper}
    with pytest.raises(KeyboardInterrupt):
        run(folder / 'parts', 6, first, 'vit', **parts)
    dist.barrier()
    run(folder / 'parts', 6, second, 'vit', resume=True, **parts)
    dist.barrier()
    if rank == 0:
        assert len(first.losses) == 3
        assert len(first.losses[-1]) == 3
        # Others' losses come a step late, and not across the end of a run.
        keys = sorted(key for key in first.losses[-1] if 'local' in key)
        assert [key[:14] for key in keys] == [
            'train/local_0.',
            'train/local_1.',
        ]
        found = [losses[keys[0]] for losses in first.losses + second.losses]
        expected = [losses[keys[0]] for losses in whole.losses]
        assert found == pytest.approx(expected, rel=1e-5)
    ends = [
        weights(folder / part, 'iter_6.pth') for part in ('whole', 'parts')
    ]
    assert list(ends[0]) == list(build(model('vit')).state_dict())
    for key, value in ends[0].items():
        assert torch.allclose(ends[1][key], value, atol=1e-6), key
    dist.destroy_process_group()
    if rank == 0:
        os.environ.pop('RANK')
        run(
            folder / 'one',
            6,
            kind='vit',
            resume=True,
            load_from=str(folder / 'parts' / 'iter_3.pth'),
        )
        one = weights(folder / 'one', 'iter_6.pth')
        for key, value in ends[0].items():
            assert torch.allclose(one[key], value, atol=1e-5), key


@check(2)
def module_parallel_validation(rank: int, folder: Path) -> None:
    """What one process finds in the checkpoint, with all images once."""
    runner = run(
        folder,
        4,
        train_cfg={'by_epoch': False, 'max_iters': 4, 'val_interval': 2},
        val_cfg={'type': 'mmlocal.LocalValLoop'},
    )
    found = runner.message_hub.get_scalar('val/mean').current()
    dist.barrier()
    one = build(model()).eval()
    one.load_state_dict(weights(folder, 'iter_4.pth'))
    metric = MeanScore()
    for index in range(16):
        batch = pack([Images()[index]])
        with torch.no_grad():
            samples = one.val_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
    expected = metric.compute_metrics(metric.results)['mean']
    assert found == pytest.approx(expected, rel=1e-5)


@check(2)
def module_parallel_killed(rank: int, folder: Path) -> None:
    with pytest.raises(RuntimeError, match='rank 1. It has ended'):
        run(folder, 20, Recorder(kill=3))
