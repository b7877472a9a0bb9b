from .segment_cosine import SegmentCosineLR
from .warmup_cosine import WarmupCosineLR

__all__ = ['SegmentCosineLR', 'WarmupCosineLR']
