"""Gradients of one step, by local training and by other ways."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.fake_tensors import tensors_of
from mmlocal.models.cut_forward import as_called
from mmlocal.models.joining import join
from mmlocal.models.structure import floats, replaced
from mmlocal.step import LocalStep, activate

Gradients = dict[str, Tensor]


def end_to_end_gradients(model: nn.Module, batch: dict) -> Gradients:
    """Of a plain step of a plain model."""
    return _trained(model, batch, OptimWrapper)


def local_gradients(model: nn.Module, batch: dict) -> Gradients:
    """Of a local step, through the optimizer wrapper."""
    return _trained(model, batch, LocalOptimWrapper)


def oracle_gradients(model: nn.Module, batch: dict) -> Gradients:
    """Each module's from its own loss, in one plain forward.

    Nothing of the library's training runs: hooks hand features to the local
    heads and pass them on detached, and autograd is asked for the gradient
    of each loss with respect to the weights of its own module, whatever
    else it depends on.
    """
    backbone = model.backbone
    names, heads = list(backbone.boundaries), backbone.local_heads
    # Of each module, one in every pass of the backbone.
    losses: list[list[Tensor]] = [[] for _ in names]
    with _alike(model):
        data = model.data_preprocessor(_copied(batch), True)
        step = LocalStep(
            inputs=data['inputs'],
            data_samples=data['data_samples'],
            preprocessor=model.data_preprocessor,
        )

        size = tensors_of(data['inputs'])[0].shape[-2:]

        def cut(index: int, module: nn.Module, args: tuple, kwargs: dict):
            crossing = backbone.crossings[names[index]]
            taken = floats((args, kwargs))
            reads = tuple(
                as_called(module, path, taken) for path in crossing.reads
            )
            reads = reads or tuple(taken)
            feat = taken[reads[0]]
            if len(reads) > 1:
                feats = [taken[path] for path in reads]
                feat = join(feats, crossing.parts, size)
            step.inputs = images[-1]
            values = heads[index].loss(feat, step.inputs, step.data_samples)
            losses[index] += [
                v.mean() for k, v in values.items() if 'loss' in k
            ]
            return replaced(
                (args, kwargs),
                {path: taken[path].detach().clone() for path in reads},
            )

        images: list[Tensor] = []
        handles = [
            backbone.backbone.register_forward_pre_hook(
                lambda module, args: images.append(args[0])
            )
        ]
        handles += [
            backbone.backbone.get_submodule(name).register_forward_pre_hook(
                partial(cut, index), with_kwargs=True
            )
            for index, name in enumerate(names)
        ]
        backbone.boundaries = []
        try:
            with activate(step):
                last, _ = model.parse_losses(model(**data, mode='loss'))
        finally:
            backbone.boundaries = names
            for handle in handles:
                handle.remove()
        groups = [backbone.module_weights(i) for i in range(len(names))]
        inside = {weight for group in groups for weight in group}
        groups.append([w for w in model.parameters() if w not in inside])
        found: dict[Tensor, Tensor] = {}
        totals = [*map(sum, losses), last]
        for loss, group in zip(totals, groups, strict=True):
            weights = [weight for weight in group if weight.requires_grad]
            grads = torch.autograd.grad(
                loss, weights, retain_graph=True, allow_unused=True
            )
            found |= dict(zip(weights, grads, strict=True))
    return {
        name: found[weight]
        for name, weight in model.named_parameters()
        if found.get(weight) is not None
    }


def largest_difference(
    found: Gradients, expected: Gradients
) -> tuple[str, float]:
    """Name of a weight, and the difference as a part of its largest value.

    A weight without gradient counts as one of zeros.
    """
    worst = ('', 0.0)
    for name in {**expected, **found}:
        mine, other = found.get(name), expected.get(name)
        known = mine if mine is not None else other
        mine = torch.zeros_like(known) if mine is None else mine
        other = torch.zeros_like(known) if other is None else other
        scale = max(other.abs().max().item(), 1e-6)
        difference = (mine - other).abs().max().item() / scale
        # What is no number is worst of all.
        if not difference <= worst[1]:
            worst = (name, difference)
    return worst


@contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """In here a model computes in float64, and what is built does, too.

    Rounding is then far below any error: a normalization of two values, as
    behind a global pooling, makes some of 0.01 of it in float32.
    """
    handle = model.data_preprocessor.register_forward_hook(
        lambda module, args, data: tree_map_only(Tensor, _double, data)
    )
    torch.set_default_dtype(torch.float64)
    model.double()
    try:
        yield
    finally:
        model.float()
        torch.set_default_dtype(torch.float32)
        handle.remove()


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _trained(
    model: nn.Module, batch: dict, kind: type[OptimWrapper]
) -> Gradients:
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.0)
    # Two steps before an update, so that gradients stay to be looked at.
    wrap = kind(optimizer=optimizer, accumulative_counts=2)
    with _alike(model):
        model.train_step(_copied(batch), wrap)
    found = {
        name: 2 * weight.grad
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    optimizer.zero_grad()
    return found


@contextmanager
def _alike(model: nn.Module) -> Iterator[None]:
    """The same random numbers each time; statistics and queues are kept."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for key, value in model.state_dict().items():
                value.copy_(before[key])


def _copied(batch: dict) -> dict:
    return {
        'inputs': _clones(batch['inputs']),
        'data_samples': [s.clone() for s in batch['data_samples']],
    }


def _clones(value):
    if isinstance(value, Tensor):
        return value.clone()
    return [_clones(item) for item in value]
