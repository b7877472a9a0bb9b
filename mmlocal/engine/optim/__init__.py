from .local_optim_wrapper import (
    LocalAmpOptimWrapper,
    LocalOptimWrapper,
    LocalStepMixin,
)

__all__ = ['LocalAmpOptimWrapper', 'LocalOptimWrapper', 'LocalStepMixin']
