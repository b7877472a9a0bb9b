"""What modules know: features of each, and measures of them."""

from .extract import Extractor, Source
from .features import Features
from .frame_probe import FrameProbe
from .hook import ModuleMeasureHook
from .linear_probe import LinearProbe
from .measure import Measure, Reading
from .mine import MutualInformation
from .nhsic_plane import NHSICPlane
from .segmentation_probe import SegmentationProbe
from .session import build_measures, measure_modules
from .similarity import CKA, EffectiveRank
from .taps import Taps
from .transfer import TransferProbe

__all__ = [
    'CKA',
    'EffectiveRank',
    'Extractor',
    'Features',
    'FrameProbe',
    'LinearProbe',
    'Measure',
    'ModuleMeasureHook',
    'MutualInformation',
    'NHSICPlane',
    'Reading',
    'SegmentationProbe',
    'Source',
    'Taps',
    'TransferProbe',
    'build_measures',
    'measure_modules',
]
