"""Classifiers, which extend those of mmpretrain."""

from .ctc_classifier import CTCClassifier
from .ff_classifier import FFClassifier
from .multi_view import MultiViewClassifier, MultiViewDataPreprocessor

__all__ = [
    'CTCClassifier',
    'FFClassifier',
    'MultiViewClassifier',
    'MultiViewDataPreprocessor',
]
