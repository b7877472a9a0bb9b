"""The learning rate of InfoPro's CIFAR, SVHN and STL-10 runs."""

from __future__ import annotations

import math

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF

from mmlocal.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    r"""Cosine annealing that a linear ramp fades into.

    With :math:`T` epochs, counted :math:`e = 1 \dots T`:

    .. math::
        \eta_e = w_e \, \frac{\eta}{2} \left(1 + \cos\frac{\pi e}{T}\right)
        + (1 - w_e) \, \eta_0, \qquad
        w_e = \min\left(\frac{e - 1}{\text{warmup}}, 1\right)

    The ramp starts at :math:`\eta_0` whatever the base rate :math:`\eta` is,
    and the last epoch runs at 0. mmengine's schedulers multiply the rate that
    they find, one after the other; this one is a sum of two ramps, which no
    chain of theirs gives.

    Args:
        optimizer (Optimizer or OptimWrapper): What to schedule.
        warmup (int): Epochs over which the ramp fades. Defaults to 10.
        warmup_lr (float): The rate of the first epoch. Defaults to 0.01.
        T_max (int, optional): T. Defaults to ``end - begin``, which is the
            run's epochs if neither is given.
        begin (int): First epoch, counted from 0. Defaults to 0.
        end (int): Epoch that is left alone again; the runner fills in the
            run's epochs.
        **kwargs: ``last_step``, ``by_epoch`` and ``verbose`` of mmengine's
            schedulers.
    """

    def __init__(
        self,
        optimizer,
        warmup: int = 10,
        warmup_lr: float = 0.01,
        T_max: int | None = None,
        begin: int = 0,
        end: int = INF,
        **kwargs,
    ):
        self.warmup = warmup
        self.warmup_lr = warmup_lr
        self.T_max = T_max or end - begin
        super().__init__(optimizer, 'lr', begin=begin, end=end, **kwargs)

    def _get_value(self) -> list[float]:
        done = self.last_step  # epochs: e - 1
        weight = done / self.warmup if done < self.warmup else 1.0
        cosine = (1 + math.cos(math.pi * (done + 1) / self.T_max)) / 2
        return [
            weight * base * cosine + (1 - weight) * self.warmup_lr
            for base in self.base_values
        ]
