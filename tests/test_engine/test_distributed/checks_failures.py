"""What is refused, and what happens when a rank is gone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from checks_gradients import models, optim_wrapper, same_on_all_ranks
from conftest import classification_batch
from mmengine.optim import OptimWrapper
from torch import nn
from worker import build, check

from mmlocal.engine.distributed import LocalDistributedDataParallel


def vit(**settings):
    model = build(models()['vit'])
    return model, LocalDistributedDataParallel(model, **settings)


@check()
def errors_on_unused_parameters(rank: int, folder: Path) -> None:
    model = build(models()['vit'])
    model.spare = nn.Linear(2, 3)
    outer = LocalDistributedDataParallel(model)
    with pytest.raises(RuntimeError, match='spare.weight, spare.bias got no'):
        outer.train_step(classification_batch(2), optim_wrapper(outer))
    model.spare.requires_grad_(False)
    outer = LocalDistributedDataParallel(model)
    outer.train_step(classification_batch(2), optim_wrapper(outer))


@check()
def errors_on_shared_parameters(rank: int, folder: Path) -> None:
    model, outer = vit()
    heads = model.backbone.local_heads
    own = heads[1].net
    wrap = optim_wrapper(outer)
    outer.train_step(classification_batch(2), wrap)
    message = r'local_heads.0.net.\S+ .*came twice .* modules 0 and 1'
    heads[1].net = heads[0].net
    with pytest.raises(RuntimeError, match=message):
        outer.train_step(classification_batch(2), wrap)
    # In the observed step all ranks say so, also if one has seen it.
    outer = LocalDistributedDataParallel(model)
    if rank == 1:
        heads[1].net = own
    outer.gradient_reducer._all.pop('backbone.local_heads.1.net.weight', None)
    outer.gradient_reducer._all.pop('backbone.local_heads.1.net.bias', None)
    with pytest.raises(RuntimeError, match=message):
        outer.train_step(classification_batch(2), optim_wrapper(outer))


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
