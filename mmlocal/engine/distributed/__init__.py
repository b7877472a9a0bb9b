from .local_ddp import LocalDistributedDataParallel
from .local_fsdp import LocalFSDP
from .module_parallel import ModuleParallel
from .reducer import GradientReducer
from .weights import average_statistics

__all__ = [
    'GradientReducer',
    'LocalDistributedDataParallel',
    'LocalFSDP',
    'ModuleParallel',
    'average_statistics',
]
