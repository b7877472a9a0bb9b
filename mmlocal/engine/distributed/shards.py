"""Whole tensors and their shards: states of models and optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

_whole: ContextVar[bool] = ContextVar('whole_states', default=False)


@contextmanager
def whole_states() -> Iterator[None]:
    """In here state dicts of sharded models and optimizers are whole.

    All ranks have to ask for the same ones, in the same order. Rank 0 gets
    the values, on the host; the others get empty tensors.
    """
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def shard(whole: Tensor, mesh: DeviceMesh, dim: int = 0) -> DTensor:
    """This rank's part of a tensor that all ranks have.

    Args:
        whole (Tensor): On any device.
        mesh (DeviceMesh): One-dimensional.
        dim (int): Along which it is cut. Defaults to 0.
    """
    parts, rank = whole.chunk(mesh.size(), dim), mesh.get_local_rank()
    part = parts[rank] if rank < len(parts) else whole.narrow(dim, 0, 0)
    # A copy: a view would keep all of it in memory.
    part = part.detach().clone(memory_format=torch.contiguous_format)
    return DTensor.from_local(
        part.to(mesh.device_type),
        mesh,
        [Shard(dim)],
        run_check=False,
        shape=whole.shape,
        stride=torch.empty_like(
            whole, device='meta', memory_format=torch.contiguous_format
        ).stride(),
    )


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """The part of ``whole`` that a rank has of ``like``, if that is sharded.

    Args:
        whole (Tensor): Of the shape of ``like``.
        like (Tensor): A DTensor, or one that all ranks have.
    """
    if not isinstance(like, DTensor) or isinstance(whole, DTensor):
        return whole
    (placement,) = like.placements
    return shard(whole, like.device_mesh, placement.dim)


def to_whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one by a collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copy_with(
    plain: nn.Module, model: nn.Module, convert: Callable[[Tensor], Tensor]
) -> nn.Module:
    """A model of the same structure with other tensors.

    Args:
        plain (nn.Module): The structure.
        model (nn.Module): Parameters and buffers.
        convert (Callable): Makes a new tensor of each of them.
    """
    copy, made = deepcopy(plain), {}
    for target, source in zip(copy.modules(), model.modules(), strict=True):
        for name, weight in source._parameters.items():
            if weight is None:
                continue
            if weight not in made:
                made[weight] = nn.Parameter(
                    convert(weight.detach()), weight.requires_grad
                )
            target._parameters[name] = made[weight]
        for name, buffer in source._buffers.items():
            if buffer is not None:
                target._buffers[name] = convert(buffer)
    return copy


def on_meta(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers take no memory."""
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {}
    for tensor in tensors:
        empty = torch.empty_like(tensor, device='meta')
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, tensor.requires_grad)
        memo[id(tensor)] = empty
    return deepcopy(model, memo)


def handle_states(model: nn.Module) -> None:
    """Make whole state dicts load into a sharded model, and come out of it.

    A copy of the model does so, too.
    """
    for module in model.modules():
        if module._parameters:
            module.register_load_state_dict_pre_hook(_shard_weights)
    model.register_state_dict_post_hook(_gather_weights)


def handle_optimizer_states(optimizer: Optimizer) -> None:
    """As :func:`handle_states`, of the optimizer of a sharded model."""
    optimizer.register_load_state_dict_pre_hook(_shard_optimizer)
    optimizer.register_state_dict_post_hook(_gather_optimizer)


def _shard_weights(
    module: nn.Module, state_dict: dict, prefix: str, *args
) -> None:
    for name, weight in module._parameters.items():
        value = state_dict.get(prefix + name)
        if value is not None and value.shape == weight.shape:
            state_dict[prefix + name] = shard_like(value, weight)


def _gather_weights(
    module: nn.Module, state_dict: dict, prefix: str, metadata: dict
) -> None:
    if _whole.get():
        for key, value in state_dict.items():
            state_dict[key] = _for_file(value)


def _shard_optimizer(optimizer: Optimizer, state_dict: dict) -> dict:
    weights = [w for g in optimizer.param_groups for w in g['params']]
    keys = [key for g in state_dict['param_groups'] for key in g['params']]
    state = dict(state_dict['state'])
    for key, weight in zip(keys, weights, strict=False):
        if key in state:
            state[key] = {
                name: shard_like(value, weight)
                if isinstance(value, Tensor) and value.shape == weight.shape
                else value
                for name, value in state[key].items()
            }
    return {**state_dict, 'state': state}


def _gather_optimizer(optimizer: Optimizer, state_dict: dict) -> dict | None:
    if not _whole.get():
        return None
    state = {
        key: {name: _for_file(value) for name, value in values.items()}
        for key, values in state_dict['state'].items()
    }
    return {**state_dict, 'state': state}


def _for_file(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = to_whole(value.detach())
    return value.cpu() if dist.get_rank() == 0 else torch.empty(0)
