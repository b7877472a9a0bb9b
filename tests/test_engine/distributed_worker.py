"""Run by torchrun on each rank, see test_distributed.py."""

from __future__ import annotations

import os
import sys
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import build, segmentation_batch, segmentor_cfg  # noqa: E402

from mmlocal.engine.optim import LocalOptimWrapper  # noqa: E402

CUTS = ['layer2.0', 'layer4.0']


def model_cfg() -> dict:
    """BatchNorm keeps its statistics per rank, as in the reference."""
    cfg = segmentor_cfg(CUTS)
    cfg['auxiliary_head'] = {**cfg['decode_head'], 'in_index': 2}
    cfg['auxiliary_head'] |= {'in_channels': 32}
    cfg['decode_head']['in_index'] = 3
    return cfg


def optim_wrapper(model, accumulative_counts):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return LocalOptimWrapper(
        optimizer=optimizer, accumulative_counts=accumulative_counts
    )


def compare_with_average(accumulative_counts: int, steps: int = 3) -> None:
    """Gradients on each step equal the average of the ranks' own."""
    rank = dist.get_rank()
    plain, inner = build(model_cfg()), build(model_cfg())
    ddp = MMDistributedDataParallel(
        inner, broadcast_buffers=False, find_unused_parameters=True
    )
    wraps = [optim_wrapper(m, accumulative_counts) for m in (plain, ddp)]
    found = []
    for model, wrap in zip((plain, ddp), wraps, strict=True):
        gradients = []
        step = wrap.step

        def keep(model=model, step=step, gradients=gradients):
            named = dict(model.named_parameters())
            if model is plain:
                for parameter in named.values():
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= dist.get_world_size()
            gradients.append(
                {
                    name.removeprefix('module.'): p.grad.clone()
                    for name, p in named.items()
                    if p.grad is not None
                }
            )
            step()

        wrap.step = keep
        for index in range(steps * accumulative_counts):
            torch.manual_seed(index)
            batch = segmentation_batch(seed=10 * index + rank)
            model.train_step(deepcopy(batch), wrap)
        found.append(gradients)
    assert len(found[0]) == steps
    for expected, values in zip(*found, strict=True):
        for name, value in values.items():
            error = (value - expected[name]).abs().max()
            scale = expected[name].abs().max() + 1e-12
            assert error / scale < 1e-5, (name, error, scale)
        for name, value in expected.items():
            assert name in values or not value.any(), name
    assert same_on_all_ranks(inner)


def same_on_all_ranks(model) -> bool:
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    other = flat.clone()
    dist.broadcast(other, 0)
    return torch.equal(flat, other)


def train_with_runner(work_dir: str) -> None:
    """The real Runner, with a shipped config's settings."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Batches(torch.utils.data.Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            batch = segmentation_batch(1, seed=index)
            return {key: value[0] for key, value in batch.items()}

    class Losses(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            self.keys = set(runner.message_hub.log_scalars)

    losses = Losses()
    runner = Runner(
        model=model_cfg(),
        work_dir=work_dir,
        launcher='pytorch',
        default_scope='mmseg',
        train_dataloader={
            'batch_size': 2,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': Batches(),
        },
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        optim_wrapper={
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
        },
        custom_hooks=[{'type': 'mmlocal.LocalLossHook'}, losses],
        cfg={
            'model_wrapper_cfg': {
                'type': 'MMDistributedDataParallel',
                'device_ids': None,
                'broadcast_buffers': False,
                'find_unused_parameters': True,
            }
        },
        randomness={'seed': 1},
    )
    runner.train()
    assert runner.iter == 8
    assert 'train/local_1.loss_recon' in losses.keys
    assert same_on_all_ranks(runner.model.module)


if __name__ == '__main__':
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    os.environ.setdefault('LOCAL_RANK', str(dist.get_rank()))
    for counts in (1, 2):
        compare_with_average(counts)
        print(f'gradients: accumulation {counts} ok', flush=True)
    train_with_runner(sys.argv[1])
    print('runner ok', flush=True)
    dist.destroy_process_group()
