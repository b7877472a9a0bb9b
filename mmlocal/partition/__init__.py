from .each_block import EachBlock
from .equal_depth import EqualDepth
from .memory import MemoryBalanced, MemoryBudget
from .published import PublishedSplit
from .stages import BalancedStages

__all__ = [
    'BalancedStages',
    'EachBlock',
    'EqualDepth',
    'MemoryBalanced',
    'MemoryBudget',
    'PublishedSplit',
]
