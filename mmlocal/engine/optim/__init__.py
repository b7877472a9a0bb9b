from .local_optim_wrapper import (
    LocalAmpOptimWrapper,
    LocalOptimWrapper,
    LocalStepMixin,
)
from .plain_names import PlainNamesConstructor

__all__ = [
    'LocalAmpOptimWrapper',
    'LocalOptimWrapper',
    'LocalStepMixin',
    'PlainNamesConstructor',
]
