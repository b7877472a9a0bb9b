"""What is refused, and what happens when a rank is gone."""

from __future__ import annotations

import os
import signal
import time
from copy import deepcopy
from pathlib import Path
from unittest import mock

import pytest
import torch
from checks_gradients import (
    average,
    models,
    optim_wrapper,
    same_on_all_ranks,
)
from conftest import build, classification_batch
from mmengine.optim import OptimWrapper
from torch import nn
from worker import check

from mmlocal.engine.distributed import LocalDistributedDataParallel, records


def vit(**settings):
    model = build(models()['vit'])
    return model, LocalDistributedDataParallel(model, **settings)


@check()
def unused_parameters(rank: int, folder: Path) -> None:
    """Have no gradient, as in one process; it is said once."""
    model = build(models()['vit'])
    model.spare = nn.Linear(2, 3)
    before = deepcopy(model.spare)
    outer = LocalDistributedDataParallel(model)
    wrap = optim_wrapper(outer, weight_decay=0.1)
    with mock.patch.object(records, 'print_log') as log:
        for step in range(3):
            outer.train_step(classification_batch(2, seed=step), wrap)
    (message,) = (call.args[0] for call in log.call_args_list)
    assert message.startswith('spare.weight, spare.bias got no gradient')
    assert torch.equal(model.spare.weight, before.weight)
    assert torch.equal(model.spare.bias, before.bias)


@check()
def errors_on_one_rank_that_freezes(rank: int, folder: Path) -> None:
    """On all ranks, in the same step; so where one replaces a weight."""
    for change in ('has been frozen', 'has been replaced'):
        # What rank 0 has sent by then finds no answer: not in our group.
        model, outer = vit(own_group=True)
        wrap = optim_wrapper(outer)
        outer.train_step(classification_batch(2), wrap)
        cls_token = model.backbone.backbone.cls_token
        if rank == 1 and change == 'has been frozen':
            cls_token.requires_grad_(False)
        elif rank == 1:
            model.backbone.backbone.cls_token = nn.Parameter(cls_token.data)
        here = (
            f'backbone.backbone.cls_token {change}'
            if rank
            else 'nothing has chang'
        )
        message = (
            f'rank {1 - rank} does not train the parameters of rank {rank}, '
            f'where {here}'
        )
        start = time.monotonic()
        for _ in range(2):  # The cause again, if one goes on.
            with pytest.raises(RuntimeError, match=message):
                outer.train_step(classification_batch(2), wrap)
        assert time.monotonic() - start < 5


@check()
def errors_on_shared_parameters(rank: int, folder: Path) -> None:
    model, outer = vit()
    heads = model.backbone.local_heads
    wrap = optim_wrapper(outer)
    outer.train_step(classification_batch(2), wrap)
    message = r'local_heads.0.net.\S+ .*came twice .* modules 0 and 1'
    heads[1].net = heads[0].net
    with pytest.raises(RuntimeError, match=message):
        outer.train_step(classification_batch(2), wrap)
    # In the observed step all ranks say so, also if one has seen it.
    outer = LocalDistributedDataParallel(model)
    if rank == 1:
        heads[1].loss = lambda feat, *args: {'loss': feat.new_zeros(())}
    with pytest.raises(RuntimeError, match=message):
        outer.train_step(classification_batch(2), optim_wrapper(outer))
    # Once on each rank, but not from the same module.
    outer = LocalDistributedDataParallel(model)
    vars(heads[1]).pop('loss', None)
    heads[1 - rank].loss = lambda feat, *args: {'loss': feat.new_zeros(())}
    message = r'net.fc.weight is trained by module 0 on rank 0, by module 1 on'
    with pytest.raises(RuntimeError, match=message):
        outer.train_step(classification_batch(2), optim_wrapper(outer))


@check()
def errors_on_sharing_with_the_last_module(rank: int, folder: Path) -> None:
    """Also where the last module uses a weight of a finished one."""
    model, outer = vit()
    wrap = optim_wrapper(outer)
    outer.train_step(classification_batch(2), wrap)
    first, *_, last = model.backbone.backbone.layers
    last.ffn = first.ffn
    message = r'layers.0.ffn.\S+ .*came twice .* modules 0 and 2'
    with pytest.raises(RuntimeError, match=message):
        outer.train_step(classification_batch(2), wrap)


@check()
def errors_of_the_caller(rank: int, folder: Path) -> None:
    model, outer = vit()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match='optim_wrapper.type is OptimWrapper'):
        outer.train_step(classification_batch(2), OptimWrapper(optimizer))
    wrap = optim_wrapper(outer)
    wrap.step = lambda: None
    outer.train_step(classification_batch(2), wrap)
    with pytest.raises(RuntimeError, match='were waited for'):
        outer.train_step(classification_batch(2), wrap)
    for settings, message in (
        ({'bucket_cap_mb': 0}, 'bucket_cap_mb=0'),
        ({'compression': 'int8'}, "compression='int8'"),
        ({'timeout': 5}, 'own_group=True'),
    ):
        with pytest.raises(ValueError, match=message):
            LocalDistributedDataParallel(model, **settings)
    with pytest.raises(RuntimeError, match=r'Linear|weight \(2, [12]\)'):
        LocalDistributedDataParallel(nn.Linear(1 + rank, 2))


@check()
def buffers(rank: int, folder: Path) -> None:
    """As in DDP: of rank 0 at the start, later on request."""
    for each_forward in (False, True):
        model = build(models()['resnet'])
        norms = [m for m in model.modules() if hasattr(m, 'running_mean')]
        with torch.no_grad():
            for tensor in [*model.parameters(), *model.buffers()]:
                tensor.add_(rank)
        outer = LocalDistributedDataParallel(
            model, broadcast_buffers=each_forward
        )
        buffers = [b.float() for b in model.buffers()]
        assert same_on_all_ranks([*model.parameters(), *buffers])
        wrap = optim_wrapper(outer, accumulative_counts=2)
        seen = []
        model.register_forward_pre_hook(
            lambda *args, seen=seen, norm=norms[0]: seen.append(
                same_on_all_ranks([norm.running_mean])
            )
        )
        for step in range(5):
            outer.train_step(
                classification_batch(2, seed=2 * step + rank), wrap
            )
        # Not between two forwards that accumulate.
        later = [False, True, False, True] if each_forward else [False] * 4
        assert seen == [True, *later]


@check()
def state_dict_keys(rank: int, folder: Path) -> None:
    """As under mm's wrappers."""
    model, outer = vit()
    keys = [f'module.{key}' for key in model.state_dict()]
    assert list(outer.state_dict()) == keys
    from mmengine.model import is_model_wrapper

    assert is_model_wrapper(outer)


@check()
def stuck_rank(rank: int, folder: Path) -> None:
    """A rank that does not answer is an error after the timeout."""
    model, outer = vit(own_group=True, timeout=2)
    wrap = optim_wrapper(outer)
    outer.train_step(classification_batch(2), wrap)
    start = time.monotonic()
    if rank == 1:
        time.sleep(4)
        return
    with pytest.raises(RuntimeError, match='rank 0: .* did not answer'):
        outer.train_step(classification_batch(2), wrap)
    assert 1 < time.monotonic() - start < 3.9


def out_of_memory(*args, **kwargs):
    raise torch.OutOfMemoryError('no memory left')


@check()
def skipped_batch(rank: int, folder: Path) -> None:
    """Rank 1 skips one of which nothing was sent, and takes the next."""
    model, outer = vit()
    plain, gradients = deepcopy(model), []
    for net in (plain, outer):
        if net is outer and rank == 1:
            model.head.loss = out_of_memory
            with pytest.raises(torch.OutOfMemoryError):
                outer.train_step(
                    classification_batch(2, seed=9), optim_wrapper(outer)
                )
            assert all(p.grad is None for p in model.parameters())
            del model.head.loss
        wrap = optim_wrapper(net)

        def keep(net=net):
            if net is plain:
                average(net.parameters())
            gradients.append([p.grad.clone() for p in net.parameters()])

        wrap.optimizer.step = keep
        torch.manual_seed(0)
        net.train_step(classification_batch(2, seed=rank), wrap)
    for value, reference in zip(*gradients, strict=True):
        assert torch.allclose(value, reference, atol=1e-6)


@check()
def step_that_fails(rank: int, folder: Path) -> None:
    """On rank 1, behind a boundary, where other ranks have a part of it."""
    model, outer = vit()
    wrap = optim_wrapper(outer)
    outer.train_step(classification_batch(2), wrap)
    if rank == 0:
        with pytest.raises(RuntimeError, match='Another rank has ended'):
            outer.train_step(classification_batch(2), wrap)
        with pytest.raises(RuntimeError, match='Another rank has ended'):
            outer.train_step(classification_batch(2), wrap)
        return
    model.head.loss = out_of_memory
    with pytest.raises(torch.OutOfMemoryError):
        outer.train_step(classification_batch(2), wrap)
    assert all(p.grad is None for p in model.parameters())
    del model.head.loss
    message = 'failed on rank 1, with OutOfMemoryError: no memory left'
    for call in (wrap.step, outer.gradient_reducer.begin):
        with pytest.raises(RuntimeError, match=message) as info:
            call()
        assert isinstance(info.value.__cause__, torch.OutOfMemoryError)
    # Of which rank 0 hears.
    os.kill(os.getpid(), signal.SIGKILL)
