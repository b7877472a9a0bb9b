"""Whole runs: the same result on any number of ranks, resume, failure."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from checks_gradients import (
    optim_wrapper,
    same_on_all_ranks,
    segmentor,
    small_buckets,
)
from conftest import build, segmentation_batch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner
from worker import check

GROUP_NORM = {'type': 'GN', 'num_groups': 2}
WRAPPER = {'type': 'mmlocal.LocalDistributedDataParallel'}


class Batches(torch.utils.data.Dataset):
    def __init__(self, length: int = 16):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        batch = segmentation_batch(1, seed=index)
        return {key: value[0] for key, value in batch.items()}


class Recorder(Hook):
    """Keeps the losses; ends the process of rank 1 in iteration `kill`."""

    # Behind the checkpoint.
    priority = 'LOWEST'

    def __init__(self, kill: int = -1, stop: int = -1):
        self.losses, self.kill, self.stop = [], kill, stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.kill and runner.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        # What is drawn at random is the same in a run that is resumed.
        torch.manual_seed(runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        scalars = runner.message_hub.log_scalars
        assert 'train/local_1.loss_recon' in scalars
        self.losses.append(outputs['loss'].item())
        if runner.iter + 1 == self.stop:
            raise KeyboardInterrupt


@METRICS.register_module()
class MeanLogit(BaseMetric):
    """Of all images: other statistics give another one."""

    def process(self, data_batch, data_samples):
        self.results += [
            sample['seg_logits']['data'].square().mean().item()
            for sample in data_samples
        ]

    def compute_metrics(self, results):
        return {'mean': sum(results) / len(results)}


def run(
    folder: Path,
    steps: int,
    hook: Hook | None = None,
    ema: dict | None = None,
    interval: int = 5,
    kind: type[Runner] = Runner,
    wrapper: dict = WRAPPER,
    **settings,
):
    """Train with momentum, clipping, EMA and accumulation."""
    runner = kind(
        model=ConfigDict(segmentor()),
        work_dir=str(folder),
        launcher='pytorch',
        default_scope='mmseg',
        experiment_name=f'{folder.name}{time.monotonic_ns()}',
        log_level='ERROR',
        train_dataloader={
            'batch_size': 2,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
            'dataset': Batches(),
        },
        train_cfg={
            'by_epoch': False,
            'max_iters': steps,
            'val_interval': 10,
        },
        optim_wrapper={
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
            'clip_grad': {'max_norm': 1.0},
            'accumulative_counts': 2,
        },
        default_hooks={
            'checkpoint': {
                'type': 'mmlocal.LocalCheckpointHook',
                'by_epoch': False,
                'interval': interval,
                'max_keep_ckpts': 1,
            }
        },
        custom_hooks=[
            {'type': 'mmlocal.LocalLossHook'},
            {'type': 'EMAHook', **(ema or {})},
            hook or Recorder(),
        ],
        cfg=Config({'model_wrapper_cfg': dict(wrapper)}),
        randomness={'seed': 1},
        **settings,
    )
    runner.train()
    return runner


@check()
def runner(rank: int, folder: Path) -> None:
    """Equal on all ranks after 6 steps; resumed, the losses of one run.

    Resumed in the middle of an accumulation, whose gradients differ between
    the ranks.
    """
    whole, first, second = Recorder(), Recorder(stop=3), Recorder()
    trained = run(folder / 'whole', 6, whole)
    assert type(trained.model).__name__ == 'LocalDistributedDataParallel'
    assert same_on_all_ranks(trained.model.module.parameters())
    with pytest.raises(KeyboardInterrupt):
        run(folder / 'parts', 6, first, interval=3)
    path = folder / 'parts' / 'iter_3.pth'
    dist.barrier()
    run(folder / 'parts', 6, second, interval=3, resume=True)
    dist.barrier()
    losses = first.losses + second.losses
    assert losses == pytest.approx(whole.losses, rel=0, abs=5e-5)
    assert max(whole.losses) - min(whole.losses) > 1e-3
    assert len(first.losses) == 3
    if rank == 0:
        assert not path.exists()
        path = folder / 'parts' / 'iter_6.pth'
        keys = torch.load(path, weights_only=False)['state_dict']
        assert set(keys) == set(trained.model.module.state_dict())


@check()
def validation(rank: int, folder: Path) -> None:
    """During training it gives what one process finds in the checkpoint."""
    for update_buffers in (False, True):
        work_dir = folder / f'ema_{update_buffers}'
        trained = run(
            work_dir,
            2,
            ema={'update_buffers': update_buffers},
            val_dataloader={
                'batch_size': 1,
                'num_workers': 0,
                'collate_fn': {'type': 'pseudo_collate'},
                'sampler': {'type': 'DefaultSampler', 'shuffle': False},
                'dataset': Batches(6),
            },
            val_evaluator={'type': 'MeanLogit'},
            val_cfg={'type': 'ValLoop'},
        )
        found = trained.message_hub.get_scalar('val/mean').current()
        dist.barrier()
        path = work_dir / 'iter_2.pth'
        state = torch.load(path, weights_only=False)['state_dict']
        model = build(segmentor()).eval()
        first = next(n for n in model.modules() if hasattr(n, 'running_var'))
        assert set(model.state_dict()) == set(state)
        model.load_state_dict(state)
        assert not torch.equal(first.running_var, torch.ones(8))
        metric = MeanLogit()
        for index in range(6):
            batch = segmentation_batch(1, seed=index)
            with torch.no_grad():
                samples = model.val_step(batch)
            metric.process(batch, [sample.to_dict() for sample in samples])
        expected = metric.compute_metrics(metric.results)['mean']
        assert found == pytest.approx(expected, rel=1e-5)


@check()
def killed_rank(rank: int, folder: Path) -> None:
    """The others end with an error; see `stuck_rank` for the timeout."""
    start = time.monotonic()
    with pytest.raises(RuntimeError, match='Another rank has ended'):
        run(folder, 20, Recorder(kill=3))
    assert time.monotonic() - start < 60


@check()
def one_process_and_two_ranks(rank: int, folder: Path) -> None:
    """The same loss curves at the same global batch, without BatchNorm."""
    cfg = segmentor(norm_cfg=GROUP_NORM)
    cfg['decode_head']['norm_cfg'] = GROUP_NORM
    cfg['auxiliary_head']['norm_cfg'] = GROUP_NORM
    cfg['backbone']['local_heads'].update(preset='cifar', norm_cfg=GROUP_NORM)
    cfg['backbone']['local_heads']['task'] = {
        'type': 'mmlocal.TaskHead',
        'head': {
            'type': 'FCNHead',
            'channels': 4,
            'num_convs': 1,
            'num_classes': 4,
            'dropout_ratio': 0,
            'norm_cfg': GROUP_NORM,
        },
    }
    curves = []
    for ranks in (1, 2):
        model = build(cfg)
        outer = small_buckets(model) if ranks == 2 else model
        wrap = optim_wrapper(outer)
        curve = []
        for step in range(8):
            batch = segmentation_batch(2, seed=step)
            if ranks == 2:
                part = slice(rank, rank + 1)
                batch = {key: value[part] for key, value in batch.items()}
            log = outer.train_step(batch, wrap)
            losses = [log['loss'], *wrap.step_log.values()]
            curve.append(torch.stack([v.detach() for v in losses]))
        curve = torch.stack(curve)
        dist.all_reduce(curve)
        curves.append(curve / 2)
    assert torch.allclose(*curves, rtol=1e-5)
    assert curves[0].std(0).min() > 1e-4
