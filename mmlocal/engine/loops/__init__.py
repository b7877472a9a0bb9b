"""Schedules: which module is trained when."""

from .replay import ReplayTrainLoop

__all__ = ['ReplayTrainLoop']
