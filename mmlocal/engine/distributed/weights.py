"""Weights and statistics that all ranks have alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import mmengine.dist
import torch
import torch.distributed as dist
from torch import Tensor, nn


def check_same_parameters(module: nn.Module) -> None:
    """Compare the ranks' models.

    Raises:
        RuntimeError: If they have other parameters; names the first.
    """
    mine = [
        f'{name} {tuple(p.shape)} {p.dtype} requires_grad={p.requires_grad}'
        for name, p in module.named_parameters()
    ]
    for rank, other in enumerate(mmengine.dist.all_gather_object(mine)):
        if other != mine:
            pairs = zip([*mine, 'nothing'], [*other, 'nothing'], strict=False)
            here, there = next(pair for pair in pairs if pair[0] != pair[1])
            raise RuntimeError(
                f'the models of rank {dist.get_rank()} and rank {rank} '
                f'differ: {here} here, {there} there. Run the same config '
                'and code on all ranks.'
            )


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of rank 0, in few messages."""
    for part in _messages(tensors):
        flat = torch.cat([tensor.flatten() for tensor in part])
        dist.broadcast(flat, 0)
        _copy(flat, part)


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Replace running means and variances by their average over the ranks.

    Those of normalization layers, found by what they have. Other buffers
    are left alone: the average of two queues is none.
    """
    found = (
        getattr(layer, name, None)
        for layer in module.modules()
        if hasattr(layer, 'running_mean') and hasattr(layer, 'running_var')
        for name in ('running_mean', 'running_var')
    )
    for part in _messages(t for t in found if t is not None):
        flat = torch.cat([tensor.flatten() for tensor in part])
        dist.all_reduce(flat)
        _copy(flat / dist.get_world_size(), part)


def _copy(flat: Tensor, tensors: list[Tensor]) -> None:
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, new in zip(tensors, flat.split(sizes), strict=True):
        tensor.copy_(new.view(tensor.shape))


def _messages(
    tensors: Iterable[Tensor], cap: int = 2**28
) -> Iterator[list[Tensor]]:
    """Tensors of one kind, about ``cap`` bytes at a time."""
    kinds: dict[tuple, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for same in kinds.values():
        part, size = [], 0
        for tensor in same:
            part.append(tensor)
            size += tensor.nbytes
            if size >= cap:
                yield part
                part, size = [], 0
        if part:
            yield part
