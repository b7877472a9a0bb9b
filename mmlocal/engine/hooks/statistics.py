"""One set of running statistics, where each rank has gathered its own."""

from __future__ import annotations

from mmengine.dist import is_distributed
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmlocal.engine.distributed import ModuleParallel, average_statistics
from mmlocal.step import unwrap


def average_over_ranks(runner: Runner) -> None:
    """Average the statistics of the model, and of its moving average.

    All ranks must call this.
    """
    if not is_distributed():
        return
    if isinstance(runner.model, ModuleParallel):
        runner.model.average_statistics()
        return
    average_statistics(unwrap(runner.model))
    for hook in runner.hooks:
        if hasattr(hook, 'ema_model'):
            average_statistics(hook.ema_model)


def saves_after(runner: Runner) -> bool:
    """Whether a checkpoint is due after this iteration.

    mmengine tells hooks that one is saved on rank 0 alone, which is too late
    for what all ranks have to do together.
    """
    return any(
        isinstance(hook, CheckpointHook)
        and not hook.by_epoch
        and (
            hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner))
        )
        for hook in runner.hooks
    )
