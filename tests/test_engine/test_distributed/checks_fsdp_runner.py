"""Whole runs of a sharded model: checkpoints, resume, failure."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from checks_fsdp import left_whole, whole
from checks_gradients import optim_wrapper, segmentor
from checks_runner import Batches, Recorder, run
from conftest import build, segmentation_batch
from worker import check

from mmlocal.engine.distributed import LocalFSDP
from mmlocal.engine.runner import LocalRunner

TOOLS = Path(__file__).parents[3] / 'tools'
SHARDED = {'kind': LocalRunner, 'wrapper': {'type': 'mmlocal.LocalFSDP'}}
VALIDATION = {
    'val_dataloader': {
        'batch_size': 1,
        'num_workers': 0,
        'collate_fn': {'type': 'pseudo_collate'},
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'dataset': Batches(4),
    },
    'val_evaluator': {'type': 'MeanLogit'},
    'val_cfg': {'type': 'ValLoop'},
}


@check()
def sharded_runner(rank: int, folder: Path) -> None:
    """As without sharding, from the same initial weights.

    With EMA, clipping, and validation; stopped in the middle of an
    accumulation, and resumed.
    """
    averaged, first, second = Recorder(), Recorder(stop=3), Recorder()
    other = run(folder / 'averaged', 4, averaged, **VALIDATION)
    with pytest.raises(KeyboardInterrupt):
        run(folder / 'sharded', 4, first, interval=3, **SHARDED)
    dist.barrier()
    settings = {**SHARDED, **VALIDATION, 'resume': True}
    trained = run(folder / 'sharded', 4, second, **settings)
    assert isinstance(trained.model, LocalFSDP)
    assert not left_whole(trained.model)
    dist.barrier()
    losses = first.losses + second.losses
    assert losses == pytest.approx(averaged.losses, rel=0, abs=5e-5)
    for runner in (trained, other):
        assert runner.message_hub.get_scalar('train/grad_norm').current() > 0
    found, expected = (
        runner.message_hub.get_scalar('val/mean').current()
        for runner in (trained, other)
    )
    assert found == pytest.approx(expected, rel=1e-4)
    sharded, plain = (
        torch.load(folder / name / 'iter_4.pth', weights_only=False)
        for name in ('sharded', 'averaged')
    )
    states = [file['optimizer']['state'] for file in (sharded, plain)]
    buffers = [
        {index: values['momentum_buffer'] for index, values in state.items()}
        for state in states
    ]
    for found, expected in (
        (sharded['state_dict'], plain['state_dict']),
        (sharded['ema_state_dict'], plain['ema_state_dict']),
        buffers,
    ):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert type(found[key]) is torch.Tensor
            assert torch.allclose(found[key], value, rtol=1e-4, atol=1e-6)


@check()
def sharded_tool(rank: int, folder: Path) -> None:
    """tools/train.py shards a model where the config says so."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = [probe.getsockname()[1]]
    dist.broadcast_object_list(port)
    dist.destroy_process_group()
    group = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1'}
    group['MASTER_PORT'] = str(port[0])
    options = {
        'model_wrapper_cfg.type': 'mmlocal.LocalFSDP',
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'train_dataloader.batch_size': 4,
        'train_dataloader.dataset.num_images': 8,
        'val_dataloader.dataset.num_images': 4,
    }
    for loader in ('train_dataloader', 'val_dataloader'):
        options[f'{loader}.num_workers'] = 0
        options[f'{loader}.persistent_workers'] = False
    sys.path.insert(0, str(TOOLS))
    train = importlib.import_module('train')
    config = TOOLS.parent / 'configs/infopro/resnet20_shapes.py'
    argv = [str(config), '--launcher', 'pytorch', '--work-dir', str(folder)]
    argv += ['--cfg-options', *(f'{k}={v}' for k, v in options.items())]
    with mock.patch.dict(os.environ, group):
        train.main(argv)
    assert not dist.is_initialized()
    if rank:
        return
    (log,) = folder.glob('*/*.log')
    text = log.read_text()
    assert 'Epoch(train) [1][1/1]' in text
    assert 'Epoch(val) [1]' in text and 'accuracy/top1' in text
    state = torch.load(folder / 'epoch_1.pth', weights_only=False)
    values = state['state_dict'].values()
    assert all(type(value) is torch.Tensor for value in values)


@check()
def sharded_killed_rank(rank: int, folder: Path) -> None:
    """The others end with an error that says so."""
    start = time.monotonic()
    with pytest.raises(RuntimeError, match='Another rank has ended'):
        run(folder, 7, Recorder(kill=3), **SHARDED)
    assert time.monotonic() - start < 60


@check()
def sharded_copy(rank: int, folder: Path) -> None:
    """Initial weights are those of one process; a runner of mmengine is
    refused before it broadcasts shards."""
    model = build(segmentor())
    outer = LocalFSDP(model)
    torch.manual_seed(3)
    outer.init_weights()
    one = build(segmentor())
    torch.manual_seed(3)
    one.init_weights()
    pairs = zip(whole(model.parameters()), one.parameters(), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)
    with pytest.raises(RuntimeError, match='LocalRunner'):
        run(folder, 1, wrapper=SHARDED['wrapper'])


@check()
def sharded_accumulation_that_is_kept_whole(rank: int, folder: Path) -> None:
    """A checkpoint in the middle of it says what it lacks."""
    from mmlocal.engine.hooks import accumulation

    outer = LocalFSDP(build(segmentor()), accumulate='whole')
    wrap = optim_wrapper(outer, accumulative_counts=2)
    outer.train_step(segmentation_batch(), wrap)
    runner = mock.Mock(model=outer, optim_wrapper=wrap, iter=0)
    with mock.patch.object(accumulation, 'print_log') as log:
        assert accumulation.unfinished_gradients(runner) == {}
    assert "accumulate='sharded'" in log.call_args.args[0]
