"""Losses that stand alone."""

from .contrastive_memory import ContrastiveMemoryLoss
from .imagewise import cell_accuracy, imagewise_cross_entropy
from .instance_memory import InstanceMemoryLoss
from .nhsic import cka, gaussian_kernel, linear_kernel, nhsic
from .similarity import SimilarityMatchingLoss
from .supcon import SupConLoss

__all__ = [
    'ContrastiveMemoryLoss',
    'InstanceMemoryLoss',
    'SimilarityMatchingLoss',
    'SupConLoss',
    'cell_accuracy',
    'cka',
    'gaussian_kernel',
    'imagewise_cross_entropy',
    'linear_kernel',
    'nhsic',
]
