"""Learning rates that follow the progress of each module."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import Optimizer

from mmlocal.registry import PARAM_SCHEDULERS


class ModuleSchedules:
    """Gives each module of one optimizer a schedule of its own.

    The optimizer's groups are split by module, and each module gets its own
    copies of the schedulers, which see its groups alone.

    Args:
        optim_wrapper (OptimWrapper): Its optimizer's groups are split.
        modules (Sequence[Sequence[nn.Parameter]]): The weights of each
            module. A weight in none of them, as those of the model's own
            head, belongs to the last.
        schedulers (Sequence[dict]): Configs of mmengine's schedulers.
        epoch_length (int): Batches of a module epoch.
        max_epochs (int): Module epochs, where schedulers end by default.

    Raises:
        ValueError: If a scheduler needs the metrics of a validation.
    """

    def __init__(
        self,
        optim_wrapper: OptimWrapper,
        modules: Sequence[Sequence[nn.Parameter]],
        schedulers: Sequence[dict],
        epoch_length: int,
        max_epochs: int,
    ):
        optimizer = optim_wrapper.optimizer
        self._modules = [
            _ModuleGroups(optimizer, indices)
            for indices in split_groups(optimizer, modules)
        ]
        if optim_wrapper.base_param_settings is not None:
            # Written in the log as base_lr.
            self._modules[0].beside = [optim_wrapper.base_param_settings]
        self._schedulers = [
            [
                _build(cfg, groups, epoch_length, max_epochs)
                for cfg in schedulers
            ]
            for groups in self._modules
        ]

    def step(self, index: int, by_epoch: bool = False) -> None:
        """Go on, after a batch of a module or after one of its epochs."""
        if not by_epoch:
            self._modules[index].step()
        for scheduler in self._schedulers[index]:
            if scheduler.by_epoch == by_epoch:
                scheduler.step()

    def reset_optimizer(self, index: int) -> None:
        """Forget momentum and the like of a module."""
        groups = self._modules[index]
        for group in groups.param_groups:
            for weight in group['params']:
                groups.optimizer.state.pop(weight, None)

    def lr(self, index: int) -> float | None:
        """A module's learning rate, that of its first group."""
        groups = self._modules[index].param_groups
        return groups[0]['lr'] if groups else None

    def state_dict(self) -> list[list[dict[str, Any]]]:
        """Of each scheduler of each module."""
        return [[s.state_dict() for s in each] for each in self._schedulers]

    def load_state_dict(self, state: list[list[dict[str, Any]]]) -> None:
        """Go on from a state; rates are the optimizer's to load."""
        for schedulers, states in zip(self._schedulers, state, strict=True):
            for scheduler, each in zip(schedulers, states, strict=True):
                scheduler.load_state_dict(each)


def split_groups(
    optimizer: Optimizer, modules: Sequence[Sequence[nn.Parameter]]
) -> list[list[int]]:
    """Split the groups of an optimizer, so that each is of one module.

    Args:
        optimizer (Optimizer): Its ``param_groups`` are replaced.
        modules (Sequence[Sequence[nn.Parameter]]): The weights of each
            module; any other belongs to the last.

    Returns:
        list[list[int]]: The numbers of each module's groups.
    """
    owner = {w: index for index, each in enumerate(modules) for w in each}
    last = len(modules) - 1
    groups: list[dict] = []
    numbers: list[list[int]] = [[] for _ in modules]
    for group in optimizer.param_groups:
        for index in range(len(modules)):
            weights = [
                w for w in group['params'] if owner.get(w, last) == index
            ]
            if weights:
                numbers[index].append(len(groups))
                groups.append({**group, 'params': weights})
    optimizer.param_groups = groups
    return numbers


class _ModuleGroups(Optimizer):
    """Some groups of an optimizer, for schedulers; it moves no weight.

    Groups are looked up by number, since loading a state replaces them.
    """

    def __init__(self, optimizer: Optimizer, numbers: Sequence[int]):
        # Not initialized as an optimizer: it has no groups of its own.
        self.optimizer = optimizer
        self.numbers = numbers
        self.beside: list[dict] = []
        self.defaults = optimizer.defaults

    @property
    def param_groups(self) -> list[dict]:
        groups = [self.optimizer.param_groups[n] for n in self.numbers]
        return groups + self.beside

    def step(self) -> None:
        """Counted by schedulers, which expect it before their own step."""


def _build(
    cfg: dict, groups: _ModuleGroups, epoch_length: int, max_epochs: int
) -> Any:
    cfg = deepcopy(cfg)
    by_epoch = cfg.get('by_epoch', True)
    cfg.setdefault('end', max_epochs * (1 if by_epoch else epoch_length))
    scheduler = PARAM_SCHEDULERS.build(
        cfg, default_args={'optimizer': groups, 'epoch_length': epoch_length}
    )
    if getattr(scheduler, 'need_val_args', False):
        raise ValueError(
            f'param_scheduler: {cfg["type"]} follows the metrics of a '
            'validation, which come after all modules have moved on: write '
            'a scheduler that counts, as MultiStepLR'
        )
    return scheduler
