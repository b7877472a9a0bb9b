"""Modules that train from buffers, each at its own pace."""

from .loop import ReplayTrainLoop

__all__ = ['ReplayTrainLoop']
