"""Phases of a run, and an optimizer that begins anew in each."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner


@dataclass(frozen=True)
class Phase:
    """The time in which one module trains.

    Attributes:
        index (int): Of the module, from 0; K for the model's own head.
        begin (int): Its first epoch or iteration.
        end (int): The first one of the next phase.
    """

    index: int
    begin: int
    end: int

    @property
    def length(self) -> int:
        """Epochs or iterations."""
        return self.end - self.begin


class Phases:
    """Modules one after another.

    Args:
        lengths (int | Sequence[int]): Epochs or iterations of each module;
            one of 0 is passed over.
        num_modules (int): K.
        key (str): What the lengths are called in ``train_cfg``.
        own_head (int, optional): Length of one more phase, in which the
            model's own head trains alone. Defaults to None.

    Raises:
        ValueError: If a length is no whole number, a list does not have K
            of them, or all are 0.
    """

    def __init__(
        self,
        lengths: int | Sequence[int],
        num_modules: int,
        key: str,
        own_head: int | None = None,
    ):
        each = lengths
        if isinstance(lengths, int):
            each = [lengths] * num_modules
        last = [] if own_head is None else [own_head]
        whole = all(isinstance(length, int) and length >= 0 for length in each)
        if not whole or len(each) != num_modules or not any([*each, *last]):
            raise ValueError(
                f'train_cfg.{key}={lengths!r}: write a whole number above 0 '
                f'for all modules, or a list of {num_modules}, one for each '
                'module, with 0 for those that are as they are loaded.'
            )
        self._borders = [0, *accumulate([*each, *last])]

    @property
    def total(self) -> int:
        """Epochs or iterations of the whole run."""
        return self._borders[-1]

    def at(self, time: int) -> Phase:
        """The phase of an epoch or iteration within the run."""
        index = sum(time >= border for border in self._borders) - 1
        return Phase(index, *self._borders[index : index + 2])


class FreshOptimizer:
    """Builds the optimizer and its schedulers again from a Runner's configs.

    The Runner replaces these by what it builds; so make this before.

    Args:
        runner (Runner): Has built neither.

    Raises:
        ValueError: If one was handed over ready-made.
    """

    def __init__(self, runner: Runner):
        self.runner = runner
        self._wrapper_cfg = deepcopy(runner.optim_wrapper)
        self._scheduler_cfgs = deepcopy(runner.param_schedulers)
        if isinstance(self._scheduler_cfgs, dict):
            self._scheduler_cfgs = [self._scheduler_cfgs]
        for key, cfgs in [
            ('optim_wrapper', [self._wrapper_cfg]),
            ('param_scheduler', self._scheduler_cfgs or []),
        ]:
            if not all(isinstance(cfg, dict) for cfg in cfgs):
                raise ValueError(
                    f'{key}: each module begins with a fresh one, built from '
                    'its config: write a dict, as '
                    "dict(type='mmlocal.LocalOptimWrapper', ...), not an "
                    'object.'
                )

    def build(self, epochs: int, iters: int) -> OptimWrapper:
        """Give the Runner new ones, as it builds them itself.

        Args:
            epochs (int): At which schedulers by epoch end by default.
            iters (int): At which the others do.

        Returns:
            OptimWrapper: The Runner's, from now on.
        """
        runner, cfgs = self.runner, deepcopy(self._scheduler_cfgs)
        wrapper = runner.build_optim_wrapper(deepcopy(self._wrapper_cfg))
        runner.optim_wrapper, runner.param_schedulers = wrapper, cfgs
        runner.scale_lr(wrapper, runner.auto_scale_lr)
        if cfgs is not None:
            for cfg in cfgs:
                by_epoch = cfg.get('by_epoch', True)
                cfg.setdefault('end', epochs if by_epoch else iters)
            runner.param_schedulers = runner.build_param_scheduler(cfgs)
        return wrapper
