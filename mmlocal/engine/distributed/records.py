"""Which module trains which parameter."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import mmengine.dist
import torch
import torch.distributed as dist
from mmengine.logging import print_log

NONE, EARLIER = -1, -2


class Records:
    """What each rank has seen of some parameters in one step.

    Args:
        names (Sequence[str]): Of the P parameters.
        keys (Sequence[int]): Of each one, what this rank has seen: module
            times ``stride`` plus the place of its gradient among all;
            EARLIER, if it has one that earlier forwards have accumulated;
            NONE without.
        twice (Sequence[int]): Module from which a second gradient has come,
            or NONE.
        talks (bool): Whether the model itself communicates.
        stride (int): See ``keys``.
        device (torch.device): That the process group can send from.
        group (dist.ProcessGroup, optional): Where it travels.

    Attributes:
        talks (bool): Whether it does on any rank.
    """

    def __init__(
        self,
        names: Sequence[str],
        keys: Sequence[int],
        twice: Sequence[int],
        talks: bool,
        stride: int,
        device: torch.device,
        group: dist.ProcessGroup | None,
    ):
        mine = torch.tensor([[*keys, talks], [*twice, NONE]], device=device)
        gathered = mmengine.dist.all_gather(mine, group)
        keys_RP, twice_RP = torch.stack(gathered).cpu().unbind(1)
        self.talks = bool(keys_RP[:, -1].any())
        self._keys, self._twice = keys_RP[:, :-1], twice_RP[:, :-1]
        self._names, self._stride = names, stride

    def check(self) -> None:
        """Let a parameter be trained by one module.

        Raises:
            RuntimeError: On all ranks, if one has seen another thing.
        """
        for rank, index in (self._twice != NONE).nonzero().tolist():
            first = self._keys[rank, index].item() // self._stride
            second = self._twice[rank, index].item()
            both = (self._twice != NONE).any(0).nonzero().flatten().tolist()
            names = [self._names[i] for i in both]
            raise RuntimeError(twice_message(names, first, second))
        modules = self._keys // self._stride
        for index, name in enumerate(self._names):
            ranks = (self._keys[:, index] >= 0).nonzero().flatten().tolist()
            for rank in ranks[1:]:
                first = modules[ranks[0], index].item()
                second = modules[rank, index].item()
                if first != second:
                    raise RuntimeError(
                        f'{name} is trained by module {first} on rank '
                        f'{ranks[0]}, by module {second} on rank {rank}: a '
                        'parameter is trained by one module. Give each '
                        'module a copy of its own, or detach one of the uses.'
                    )

    def found(self, last: int) -> dict[int, int]:
        """Keys, by index, of the parameters that any rank has used.

        Args:
            last (int): Key of those that were used earlier only.

        Returns:
            dict[int, int]: As rank 0 has seen them, or else the first rank
            that has.
        """
        seen = self._keys >= 0
        first = seen.int().argmax(0, keepdim=True)
        keys = self._keys.gather(0, first)[0]
        earlier = (self._keys == EARLIER).any(0)
        keys[~seen.any(0) & earlier] = last
        used = seen.any(0) | earlier
        return {i: keys[i].item() for i in used.nonzero().flatten().tolist()}


def twice_message(names: Sequence[str], first: int, second: int) -> str:
    """What to do about parameters that two modules train."""
    return (
        f'the gradient of {listing(names)} came twice in one step, from '
        f'modules {first} and {second}: a parameter is trained by one '
        'module. Give each module a copy of its own, or detach one of the '
        'uses. (Twice in one module: a weight that two reentrant '
        'checkpoints share; use one checkpoint around both.)'
    )


def listing(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = f' and {len(names) - 8} more' if names[8:] else ''
    return ', '.join(names[:8]) + more


def warn_of_unused(names: Sequence[str]) -> None:
    """Say what no rank has used, and what to do."""
    if names:
        print_log(
            f'{listing(names)} got no gradient on any rank in the first step. '
            'They are trained from the step on in which a rank uses them; '
            'until then all ranks look for them at the end of each step. If '
            'that is never: take the layer out of the config; let the loss '
            'use it (an output of a finished module trains its own layers '
            'only if a head reads it: see `out_indices`); or freeze it with '
            'requires_grad=False.',
            logger='current',
            level=logging.WARNING,
        )
