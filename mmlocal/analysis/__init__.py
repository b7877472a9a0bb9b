"""What modules know: features of each, and measures of them."""

from .features import Features
from .linear_probe import LinearProbe
from .measure import Measure, Reading
from .segmentation_probe import SegmentationProbe

__all__ = [
    'Features',
    'LinearProbe',
    'Measure',
    'Reading',
    'SegmentationProbe',
]
