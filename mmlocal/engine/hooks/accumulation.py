"""Keeps the gradients of an accumulation that a checkpoint interrupts."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocal.engine.distributed import ModuleParallel
from mmlocal.engine.distributed.shards import shard_like, to_whole
from mmlocal.step import unwrap


def unfinished_gradients(runner: Runner) -> dict[str, Any]:
    """What has been accumulated since the last step of the optimizer.

    To be called on all ranks, which accumulate on their own: the average
    over them is what the step will get.

    Returns:
        dict: ``counts``, the iterations of an accumulation, and
        ``gradients`` by parameter, on the host; {} between two
        accumulations. Also, with a warning, if a wrapper keeps them where
        nobody else finds them.
    """
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return {}
    if getattr(runner.model, 'accumulate', None) == 'whole':
        print_log(
            f'the checkpoint behind iteration {runner.iter + 1}, in the '
            'middle of an accumulation, is without its gradients: write '
            "model_wrapper_cfg.accumulate='sharded', or an interval of "
            'checkpoints that is a multiple of accumulative_counts.',
            logger='current',
            level=logging.WARNING,
        )
        return {}
    parameters = dict(unwrap(runner.model).named_parameters())
    device = next(p.device for p in parameters.values() if not p.is_meta)
    # Under ModuleParallel, one rank of so many has a gradient of a weight.
    stages = 1
    if isinstance(runner.model, ModuleParallel):
        stages = runner.model.stages.count
    there = torch.tensor(
        [p.grad is not None for p in parameters.values()],
        dtype=torch.int32,
        device=device,
    )
    all_reduce(there, 'max')
    gradients = {}
    for (name, parameter), known in zip(
        parameters.items(), there.tolist(), strict=True
    ):
        if known:
            gradients[name] = stages * _average(parameter, device).cpu()
    return {'counts': wrapper._accumulative_counts, 'gradients': gradients}


def restore_gradients(runner: Runner, kept: dict[str, Any]) -> None:
    """Go on where :func:`unfinished_gradients` looked.

    If the config accumulates over another number of iterations now, the
    gradients are left out, and that is said.
    """
    if not kept:
        return
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    if counts != kept['counts']:
        print_log(
            f'optim_wrapper.accumulative_counts is {counts}, and was '
            f'{kept["counts"]}: the gradients of the accumulation that the '
            'checkpoint interrupted are left out.',
            logger='current',
            level=logging.WARNING,
        )
        return
    for name, parameter in unwrap(runner.model).named_parameters():
        if name in kept['gradients']:
            gradient = kept['gradients'][name]
            gradient = gradient.to(parameter.device, parameter.dtype)
            parameter.grad = shard_like(gradient, parameter)
    print_log(
        f'iteration {runner.iter} is inside of an accumulation: its '
        'gradients so far came with the checkpoint, and none is lost.',
        logger='current',
    )


@torch.no_grad()
def _average(parameter: nn.Parameter, device: torch.device) -> Tensor:
    """Of its gradients on all ranks, whole; a shard is one already."""
    gradient = parameter.grad
    if gradient is None:
        # A weight of another rank is on none.
        here = device if parameter.is_meta else None
        gradient = torch.zeros_like(parameter, device=here)
    whole = to_whole(gradient)
    if whole is gradient:
        whole = gradient.clone()
        all_reduce(whole, 'mean')
    return whole
