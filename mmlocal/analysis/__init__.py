"""What modules know: features of each, and measures of them."""

from .features import Features
from .measure import Measure, Reading

__all__ = ['Features', 'Measure', 'Reading']
