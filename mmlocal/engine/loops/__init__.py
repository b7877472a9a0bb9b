"""Schedules: which module is trained when; and validation of all."""

from .local_val import LocalTestLoop, LocalValLoop
from .replay import ReplayTrainLoop
from .sequential import SequentialIterTrainLoop, SequentialTrainLoop

__all__ = [
    'LocalTestLoop',
    'LocalValLoop',
    'ReplayTrainLoop',
    'SequentialIterTrainLoop',
    'SequentialTrainLoop',
]
