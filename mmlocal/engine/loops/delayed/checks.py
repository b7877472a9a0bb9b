"""Settings in which gradients cannot be delayed."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmlocal.step import local_backbone

from ..checks import own_step, plain_wrapper, uncut_model

LOOP = "train_cfg.type='mmlocal.DelayedGradientTrainLoop'"


def model_problems(runner: Runner) -> Iterator[str]:
    """What is wrong with the model, or stands around it."""
    loop, model = LOOP, runner.model
    if is_model_wrapper(model) or runner.world_size > 1:
        yield (
            f'{loop} runs in one process: write '
            "launcher='none' and start one, or train by local losses "
            "(train_cfg.type='EpochBasedTrainLoop', with local_heads) on "
            'several'
        )
    yield from uncut_model(model, loop, '[]')
    backbone = local_backbone(model)
    if backbone is not None and backbone.module_heads:
        yield (
            f'{loop} takes the place of local losses, and the local heads '
            'would never be trained: write model.backbone.local_heads=[] '
            '(and remove local_end)'
        )
    yield from own_step(runner, loop)


def optimizer_problems(runner: Runner) -> Iterator[str]:
    """What is wrong with the optimizer wrapper, once it is built."""
    wrapper = runner.optim_wrapper
    yield from plain_wrapper(wrapper)
    if getattr(wrapper, '_accumulative_counts', 1) > 1:
        yield (
            'optim_wrapper.accumulative_counts would add up gradients of '
            'batches that are older in one module than in another, and were '
            'made with different weights: remove it, and raise '
            'train_dataloader.batch_size'
        )
    if getattr(wrapper, '_by_module', False):
        yield (
            "optim_wrapper.step='module' frees the gradients of a module "
            'before the next one runs, which delayed gradients do not do: '
            'remove step'
        )
