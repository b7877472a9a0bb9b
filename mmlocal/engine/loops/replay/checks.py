"""Settings with which modules cannot train one at a time from buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmlocal.engine.hooks import ResetOptimizerStateHook

from ..checks import own_step, plain_wrapper, uncut_model


def model_problems(runner: Runner) -> Iterator[str]:
    """What is wrong with the model, or stands around it."""
    loop, model = "train_cfg.type='mmlocal.ReplayTrainLoop'", runner.model
    if is_model_wrapper(model) or runner.world_size > 1:
        yield (
            f'{loop} trains one module at a time in one process, and each '
            "rank would draw modules of its own: write launcher='none' and "
            'run one process, or train all modules at once '
            "(train_cfg.type='EpochBasedTrainLoop') on several"
        )
    yield from uncut_model(model, loop, '...')
    yield from own_step(runner, loop)
    if any(isinstance(hook, ResetOptimizerStateHook) for hook in runner.hooks):
        yield (
            'custom_hooks: ResetOptimizerStateHook clears the state of all '
            "modules at an epoch of the run: remove it, and write the loop's "
            'reset_at, which goes by the epochs of each module'
        )


def optimizer_problems(runner: Runner) -> Iterator[str]:
    """What is wrong with the optimizer wrapper, once it is built."""
    wrapper = runner.optim_wrapper
    yield from plain_wrapper(wrapper)
    if getattr(wrapper, '_accumulative_counts', 1) > 1:
        yield (
            'optim_wrapper.accumulative_counts counts ticks, of whichever '
            'module, so that a module would step with a part of its '
            'gradient: remove it, and raise train_dataloader.batch_size'
        )


def scheduler_configs(schedulers: Any) -> list[dict]:
    """Configs of schedulers, none of them built.

    Raises:
        ValueError: If one is.
    """
    if schedulers is None:
        return []
    if isinstance(schedulers, dict):
        return [schedulers]
    if not all(isinstance(each, dict) for each in schedulers):
        raise ValueError(
            'param_scheduler has schedulers that are built already, but each '
            'module needs its own: write their configs, as '
            "dict(type='MultiStepLR', milestones=[15, 30])"
        )
    return [*schedulers]
