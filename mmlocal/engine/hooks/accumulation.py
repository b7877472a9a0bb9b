"""Keeps the gradients of an accumulation that a checkpoint interrupts."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmlocal.step import unwrap


def unfinished_gradients(runner: Runner) -> dict[str, Any]:
    """What has been accumulated since the last step of the optimizer.

    To be called on all ranks, which accumulate on their own: the average
    over them is what the step will get.

    Returns:
        dict: ``counts``, the iterations of an accumulation, and
        ``gradients`` by parameter, on the host; {} between two
        accumulations.
    """
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return {}
    parameters = dict(unwrap(runner.model).named_parameters())
    device = next(iter(parameters.values())).device
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
            gradient = (
                torch.zeros_like(parameter)
                if parameter.grad is None
                else parameter.grad.clone()
            )
            all_reduce(gradient, 'mean')
            gradients[name] = gradient.detach().cpu()
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
            parameter.grad = gradient.to(parameter.device, parameter.dtype)
    print_log(
        f'iteration {runner.iter} is inside of an accumulation: its '
        'gradients so far came with the checkpoint, and none is lost.',
        logger='current',
    )
