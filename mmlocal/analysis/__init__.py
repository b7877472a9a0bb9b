"""What modules know: features of each, and measures of them."""

from .extract import Extractor, Source
from .features import Features
from .hook import ModuleMeasureHook
from .measure import Measure, Reading
from .nhsic_plane import NHSICPlane
from .session import build_measures, measure_modules
from .similarity import CKA, EffectiveRank
from .taps import Taps

__all__ = [
    'CKA',
    'EffectiveRank',
    'Extractor',
    'Features',
    'Measure',
    'ModuleMeasureHook',
    'NHSICPlane',
    'Reading',
    'Source',
    'Taps',
    'build_measures',
    'measure_modules',
]
