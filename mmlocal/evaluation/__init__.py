"""Metrics module by module, and what they are computed from."""

from .accuracy import PerModuleAccuracy
from .iou import PerModuleIoU

__all__ = ['PerModuleAccuracy', 'PerModuleIoU']
