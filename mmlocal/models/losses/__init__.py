"""Losses that stand alone."""

from .supcon import SupConLoss

__all__ = ['SupConLoss']
