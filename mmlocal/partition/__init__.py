from .equal_depth import EqualDepth
from .published import PublishedSplit

__all__ = ['EqualDepth', 'PublishedSplit']
