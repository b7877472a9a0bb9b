"""Classifiers, which extend those of mmpretrain."""

from .ctc_classifier import CTCClassifier

__all__ = ['CTCClassifier']
