"""Schedules: which module is trained when."""

from .delayed import DelayedGradientIterTrainLoop, DelayedGradientTrainLoop
from .replay import ReplayTrainLoop
from .sequential import SequentialIterTrainLoop, SequentialTrainLoop

__all__ = [
    'DelayedGradientIterTrainLoop',
    'DelayedGradientTrainLoop',
    'ReplayTrainLoop',
    'SequentialIterTrainLoop',
    'SequentialTrainLoop',
]
