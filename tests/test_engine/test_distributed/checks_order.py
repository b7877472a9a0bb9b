"""Ranks that compute different things; models that change or communicate."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from checks_gradients import (
    average,
    compare,
    models,
    optim_wrapper,
    small_buckets,
    train,
)
from conftest import build, classification_batch
from torch import Tensor, nn
from worker import check

from mmlocal.engine.distributed import LocalDistributedDataParallel


class SumOverRanks(torch.autograd.Function):
    """In forward and backward, as SyncBN does."""

    @staticmethod
    def forward(ctx, feat: Tensor) -> Tensor:
        total = feat.mean(0)
        dist.all_reduce(total)
        return feat + total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        total = grad.mean(0)
        dist.all_reduce(total)
        return grad + total


def blocks(model: nn.Module) -> nn.ModuleList:
    """Of a ViT: the first; the second and third; the fourth."""
    return model.backbone.backbone.layers


def communicate(model: nn.Module, block: int = 1) -> None:
    if not blocks(model)[block]._forward_hooks:
        blocks(model)[block].register_forward_hook(
            lambda *args: SumOverRanks.apply(args[-1])
        )


def leave_out(model: nn.Module, block: int, where: bool) -> None:
    """Skip the feed-forward network, whose gradients are a block's first."""
    ffn = blocks(model)[block].ffn
    vars(ffn).pop('forward', None)
    if where:
        ffn.forward = lambda feat, identity: identity


def without_own_group(model: nn.Module) -> nn.Module:
    return LocalDistributedDataParallel(
        model, bucket_cap_mb=1 / 256, own_group=False
    )


@check()
def order_between_modules(rank: int, folder: Path) -> None:
    """Rank 1 trains module 0 in part, or not; module 1 communicates."""

    def prepare(model, index):
        communicate(model)
        leave_out(model, 0, bool(rank and index == 1))
        head = model.backbone.local_heads[0]
        vars(head).pop('loss', None)
        if rank and index == 2:
            head.loss = lambda feat, *args: {'loss': feat.new_zeros(())}

    compare(models()['vit'], 1, without_own_group, prepare=prepare)


@check()
def order_within_a_module(rank: int, folder: Path) -> None:
    """Gradients move to a group of their own if the model communicates."""
    groups = []

    def prepare(model, index):
        communicate(model)
        leave_out(model, 2, bool(rank and index))

    def setup(model, outer, wrap):
        reducer = outer.gradient_reducer
        model.register_forward_pre_hook(
            lambda *args: groups.append(reducer._group)
        )

    cfg = models()['vit']
    compare(cfg, 1, small_buckets, prepare=prepare, setup=setup)
    assert groups[0] is None and None not in groups[1:]
    groups.clear()
    train(cfg, small_buckets, 3, 1, setup=setup)
    assert groups == [None] * 3


@check()
def early_on_all_ranks(rank: int, folder: Path) -> None:
    """Finished modules' bytes leave in time, whatever a rank computes."""
    model = build(models()['vit'])
    outer = small_buckets(model)
    wrap = optim_wrapper(outer)
    sent, backward, all_reduce = [], wrap.backward, dist.all_reduce

    def count(tensor, *args, **kwargs):
        sent.append(tensor.nbytes)
        return all_reduce(tensor, *args, **kwargs)

    def last(loss):
        early.append(sum(sent))
        backward(loss)

    wrap.backward = last
    early = []
    with mock.patch.object(dist, 'all_reduce', count):
        for step in range(3):
            sent.clear()
            leave_out(model, 0, bool(rank and step == 2))
            outer.train_step(classification_batch(2, seed=step), wrap)
    parts = (model.head, blocks(model)[3], model.backbone.backbone.ln1)
    late = sum(p.nbytes for part in parts for p in part.parameters())
    finished = sum(p.nbytes for p in model.parameters()) - late
    assert early == [0, finished, finished]


@check()
def gradients_of_blocks_dropped_at_first(rank: int, folder: Path) -> None:
    """No rank uses block 2 in steps 0 and 1, one in step 2, all in step 3."""

    def prepare(model, index):
        leave_out(model, 2, index < 2 + (1 - rank))

    for wrapped in (small_buckets, LocalDistributedDataParallel):
        compare(models()['vit'], 1, wrapped, prepare=prepare, steps=4)
    found = train(models()['vit'], small_buckets, 4, 1, prepare)
    names = [any('layers.2.ffn' in name for name in step) for step in found]
    assert names == [False, False, True, True]


@check()
def gradients_of_replaced_weights(rank: int, folder: Path) -> None:
    """And of added ones; rank 0's values count, as at the beginning."""
    model = build(models()['vit'])
    outer = LocalDistributedDataParallel(model)
    gradients_of_step(outer)
    head = model.head
    head.fc = nn.Linear(16, 10)
    head.fc.gain = nn.Parameter(torch.ones(10))
    head.fc.register_forward_hook(lambda fc, args, out: out * fc.gain)
    with torch.no_grad():
        for parameter in head.fc.parameters():
            parameter.add_(rank)
    plain = deepcopy(model)
    for parameter in plain.head.parameters():
        dist.broadcast(parameter.data, 0)
    expected = gradients_of_step(plain, lambda: average(plain.parameters()))
    found = gradients_of_step(outer)
    assert 'head.fc.gain' in found
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def gradients_of_step(
    outer: nn.Module, before_step: Callable = lambda: None
) -> dict[str, Tensor]:
    wrap = optim_wrapper(outer)
    model, found = getattr(outer, 'module', outer), {}

    def keep():
        before_step()
        for name, parameter in model.named_parameters():
            found[name] = parameter.grad.clone()

    wrap.optimizer.step = keep
    torch.manual_seed(0)
    seed = dist.get_rank()
    outer.train_step(classification_batch(2, seed=seed), wrap)
    return found
