"""Metrics module by module, and what they are computed from."""

from .accuracy import PerModuleAccuracy
from .frame_accuracy import FrameAccuracy
from .iou import PerModuleIoU

__all__ = ['FrameAccuracy', 'PerModuleAccuracy', 'PerModuleIoU']
