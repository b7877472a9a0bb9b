"""Schedules: which module is trained when."""

from .sequential import SequentialIterTrainLoop, SequentialTrainLoop

__all__ = ['SequentialIterTrainLoop', 'SequentialTrainLoop']
