"""Modules that are trained by the true gradient, late."""

from .loop import DelayedGradientIterTrainLoop, DelayedGradientTrainLoop

__all__ = ['DelayedGradientIterTrainLoop', 'DelayedGradientTrainLoop']
