"""Schedules: which module is trained when; and validation of all."""

from .local_val import LocalTestLoop, LocalValLoop

__all__ = ['LocalTestLoop', 'LocalValLoop']
