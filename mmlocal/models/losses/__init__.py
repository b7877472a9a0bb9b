"""Losses that stand alone."""

from .nhsic import cka, gaussian_kernel, linear_kernel, nhsic
from .supcon import SupConLoss

__all__ = ['SupConLoss', 'cka', 'gaussian_kernel', 'linear_kernel', 'nhsic']
