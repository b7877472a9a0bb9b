"""Schedules: which module is trained when; and validation of all."""

from .delayed import DelayedGradientIterTrainLoop, DelayedGradientTrainLoop
from .local_val import LocalTestLoop, LocalValLoop
from .replay import ReplayTrainLoop
from .sequential import SequentialIterTrainLoop, SequentialTrainLoop

__all__ = [
    'DelayedGradientIterTrainLoop',
    'DelayedGradientTrainLoop',
    'LocalTestLoop',
    'LocalValLoop',
    'ReplayTrainLoop',
    'SequentialIterTrainLoop',
    'SequentialTrainLoop',
]
