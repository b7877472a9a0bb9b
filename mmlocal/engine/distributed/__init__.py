from .local_ddp import LocalDistributedDataParallel
from .reducer import GradientReducer
from .weights import average_statistics

__all__ = [
    'GradientReducer',
    'LocalDistributedDataParallel',
    'average_statistics',
]
