"""Losses that stand alone."""

from .contrastive_memory import ContrastiveMemoryLoss
from .instance_memory import InstanceMemoryLoss
from .supcon import SupConLoss

__all__ = ['ContrastiveMemoryLoss', 'InstanceMemoryLoss', 'SupConLoss']
