from .equal_depth import EqualDepth
from .memory import MemoryBalanced, MemoryBudget
from .published import PublishedSplit

__all__ = ['EqualDepth', 'MemoryBalanced', 'MemoryBudget', 'PublishedSplit']
