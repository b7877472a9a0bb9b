"""Losses that stand alone."""

from .contrastive_memory import ContrastiveMemoryLoss
from .instance_memory import InstanceMemoryLoss
from .nhsic import cka, gaussian_kernel, linear_kernel, nhsic
from .similarity import SimilarityMatchingLoss
from .supcon import SupConLoss

__all__ = [
    'ContrastiveMemoryLoss',
    'InstanceMemoryLoss',
    'SimilarityMatchingLoss',
    'SupConLoss',
    'cka',
    'gaussian_kernel',
    'linear_kernel',
    'nhsic',
]
