"""Losses that stand alone."""

from .nhsic import cka, gaussian_kernel, linear_kernel, nhsic
from .similarity import SimilarityMatchingLoss
from .supcon import SupConLoss

__all__ = [
    'SimilarityMatchingLoss',
    'SupConLoss',
    'cka',
    'gaussian_kernel',
    'linear_kernel',
    'nhsic',
]
