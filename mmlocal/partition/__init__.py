from .each_block import EachBlock
from .equal_depth import EqualDepth
from .memory import MemoryBalanced, MemoryBudget
from .published import PublishedSplit

__all__ = [
    'EachBlock',
    'EqualDepth',
    'MemoryBalanced',
    'MemoryBudget',
    'PublishedSplit',
]
