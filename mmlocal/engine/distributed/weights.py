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
def broadcast(
    tensors: Iterable[Tensor], group: dist.ProcessGroup | None = None
) -> None:
    """Replace tensors by those of the first rank, in few messages."""
    for part in _messages(tensors):
        flat = torch.cat([tensor.flatten() for tensor in part])
        first = dist.get_global_rank(group or dist.group.WORLD, 0)
        mmengine.dist.broadcast(flat, first, group)
        _copy(flat, part)


@torch.no_grad()
def average_statistics(
    module: nn.Module, group: dist.ProcessGroup | None = None
) -> None:
    """Replace running means and variances by their average over the ranks.

    Those of normalization layers, found by what they have. Other buffers
    are left alone: the average of two queues is none.

    Args:
        module (nn.Module): The same on all ranks of the group; what has no
            memory is left out.
        group (dist.ProcessGroup, optional): Of these ranks.
    """
    found = (
        getattr(layer, name, None)
        for layer in module.modules()
        if hasattr(layer, 'running_mean') and hasattr(layer, 'running_var')
        for name in ('running_mean', 'running_var')
    )
    there = (t for t in found if t is not None and not t.is_meta)
    for part in _messages(there):
        flat = torch.cat([tensor.flatten() for tensor in part])
        dist.all_reduce(flat, group=group)
        _copy(flat / dist.get_world_size(group), part)


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
