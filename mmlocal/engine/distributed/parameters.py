"""The parameters of a model at one time, alike on all ranks."""

from __future__ import annotations

import hashlib

import torch
import torch.distributed as dist
from torch import nn

from .records import listing


class Parameters:
    """What a model has, and which of it is trained.

    Args:
        module (nn.Module): The model.
    """

    def __init__(self, module: nn.Module):
        self._params = dict(module.named_parameters())
        self._flags = {
            name: param.requires_grad for name, param in self._params.items()
        }

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Those that are trained, by name."""
        return {n: p for n, p in self._params.items() if self._flags[n]}

    @property
    def device(self) -> torch.device:
        """Of the first one that is trained, if any is."""
        params = [*self.trainable.values(), *self._params.values()]
        return params[0].device

    def __str__(self) -> str:
        """What ranks can compare."""
        return ' '.join(
            f'{name} {tuple(param.shape)} {param.dtype}'
            for name, param in self.trainable.items()
        )

    def changes(self, before: Parameters) -> str:
        """In words, what has been changed since then; empty if nothing."""
        old, now = before._params, self._params
        both = [name for name in now if name in old]
        kinds = {
            'added': [name for name in now if name not in old],
            'removed': [name for name in old if name not in now],
            'replaced': [n for n in both if now[n] is not old[n]],
            'frozen': [n for n in both if before._flags[n] > self._flags[n]],
            'released': [n for n in both if before._flags[n] < self._flags[n]],
        }
        return '; '.join(
            f'{listing(names)} has been {kind}'
            for kind, names in kinds.items()
            if names
        )

    def not_in(self, before: Parameters) -> list[nn.Parameter]:
        """Those that there were not then."""
        old = {id(param) for param in before._params.values()}
        return [p for p in self._params.values() if id(p) not in old]


class Agreement:
    """Compares a text over the ranks, while these compute.

    Args:
        text (str): What should be the same everywhere.
        device (torch.device): That the process group can send from.
        group (dist.ProcessGroup, optional): Where it travels.
    """

    def __init__(
        self,
        text: str,
        device: torch.device,
        group: dist.ProcessGroup | None,
    ):
        digest = hashlib.sha256(text.encode()).digest()[:7]
        mine = torch.tensor([int.from_bytes(digest, 'big')], device=device)
        ranks = dist.get_world_size(group)
        self._group = group or dist.group.WORLD
        self._codes = [torch.empty_like(mine) for _ in range(ranks)]
        self._work = dist.all_gather(self._codes, mine, group, async_op=True)

    def others(self) -> list[int]:
        """Ranks whose text is another one; waits for all of them."""
        self._work.wait()
        codes = torch.cat(self._codes).tolist()
        mine = codes[dist.get_rank(self._group)]
        others = [i for i, code in enumerate(codes) if code != mine]
        return [dist.get_global_rank(self._group, i) for i in others]
