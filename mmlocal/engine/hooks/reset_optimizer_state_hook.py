"""Forgets the optimizer's state where the learning rate drops."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmlocal.registry import HOOKS


@HOOKS.register_module()
class ResetOptimizerStateHook(Hook):
    """Clears momentum and the like at given epochs or iterations.

    As if a new optimizer were made there, which is what the code of
    `DGL <https://arxiv.org/abs/1901.08164>`_ does; learning rates are left to
    the schedulers. The state follows from the epoch alone, so that a run
    that is resumed does what one that was not stopped does.

    Args:
        milestones (Sequence[int]): Epochs or iterations, counted from 0, at
            whose beginning the state is cleared; those of
            ``MultiStepLR`` as a rule.
        by_epoch (bool): Whether these are epochs. Defaults to True.

    Raises:
        ValueError: If a milestone is no whole number above 0.
    """

    def __init__(self, milestones: Sequence[int], by_epoch: bool = True):
        if any(not isinstance(m, int) or m < 1 for m in milestones):
            raise ValueError(
                f'ResetOptimizerStateHook.milestones={milestones!r}: write '
                'a list of whole numbers above 0, as [150, 225]'
            )
        self.milestones = frozenset(milestones)
        self.by_epoch = by_epoch

    def before_train_epoch(self, runner: Runner) -> None:
        """Clear the state if a milestone begins."""
        if self.by_epoch and runner.epoch in self.milestones:
            _reset(runner)

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
    ) -> None:
        """Clear the state if a milestone begins."""
        if not self.by_epoch and runner.iter in self.milestones:
            _reset(runner)


def _reset(runner: Runner) -> None:
    wrapper = runner.optim_wrapper
    several = isinstance(wrapper, OptimWrapperDict)
    for each in wrapper.values() if several else [wrapper]:
        each.optimizer.state.clear()
