"""Classifiers, which extend those of mmpretrain."""

from .ctc_classifier import CTCClassifier
from .multi_view import MultiViewClassifier, MultiViewDataPreprocessor

__all__ = [
    'CTCClassifier',
    'MultiViewClassifier',
    'MultiViewDataPreprocessor',
]
