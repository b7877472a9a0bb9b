"""Heads of whole models, which extend those of mmpretrain."""

from .ctc_head import CTCHead
from .frame_cls_head import FrameClsHead

__all__ = ['CTCHead', 'FrameClsHead']
