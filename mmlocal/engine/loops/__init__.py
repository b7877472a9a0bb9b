"""Schedules: which module is trained when."""

from .replay import ReplayTrainLoop
from .sequential import SequentialIterTrainLoop, SequentialTrainLoop

__all__ = [
    'ReplayTrainLoop',
    'SequentialIterTrainLoop',
    'SequentialTrainLoop',
]
