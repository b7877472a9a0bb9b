"""The learning rates of contrastive temporal coding, and its baseline."""

from __future__ import annotations

import math

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF

from mmlocal.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class SegmentCosineLR(_ParamScheduler):
    r"""Cosine annealing of one stretch of a run, from a rate of its own.

    With the T epochs from ``begin`` to ``end``, counted :math:`e = 1 \dots
    T`, the base rate :math:`\eta` of the optimizer and the factor
    :math:`\gamma`:

    .. math::
        \eta_e = \gamma \eta \left[ r + (1 - r) \frac{1}{2} \left(
            1 + \cos\frac{\pi e}{T + 1} \right) \right]

    and :math:`\gamma \eta e / w` in the first w epochs. Several of them, one
    after the other, make warm restarts. mmengine's cosine starts at
    :math:`e = 0`, and cannot be joined half-way by a ramp.

    Args:
        optimizer (Optimizer or OptimWrapper): What to schedule.
        factor (float): :math:`\gamma`. Defaults to 1.
        min_ratio (float): r, what the cosine falls to. Defaults to 0.
        warmup (int): w. Defaults to 0.
        begin (int): First epoch, counted from 0. Defaults to 0.
        end (int): Epoch that is left alone again; the runner fills in the
            run's epochs.
        **kwargs: ``last_step``, ``by_epoch`` and ``verbose`` of mmengine's
            schedulers.
    """

    def __init__(
        self,
        optimizer,
        factor: float = 1.0,
        min_ratio: float = 0.0,
        warmup: int = 0,
        begin: int = 0,
        end: int = INF,
        **kwargs,
    ):
        self.factor = factor
        self.min_ratio = min_ratio
        self.warmup = warmup
        super().__init__(optimizer, 'lr', begin=begin, end=end, **kwargs)

    def _get_value(self) -> list[float]:
        epoch = self.last_step + 1
        if epoch <= self.warmup:
            share = epoch / self.warmup
        else:
            angle = math.pi * epoch / (self.end - self.begin + 1)
            cosine = (1 + math.cos(angle)) / 2
            share = self.min_ratio + (1 - self.min_ratio) * cosine
        return [base * self.factor * share for base in self.base_values]
