"""Modules that train one after another, from stored features or not."""

from .loop import SequentialIterTrainLoop, SequentialTrainLoop

__all__ = ['SequentialIterTrainLoop', 'SequentialTrainLoop']
