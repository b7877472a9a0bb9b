from .local_ddp import LocalDistributedDataParallel
from .reducer import GradientReducer

__all__ = ['GradientReducer', 'LocalDistributedDataParallel']
