"""Heads of whole models, which extend those of mmpretrain."""

from .ctc_head import CTCHead

__all__ = ['CTCHead']
