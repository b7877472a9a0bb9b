"""What is needed of torch's fake tensors and modes that is not public."""

import torch

try:
    from torch._C import _DisableTorchDispatch as no_dispatch
    from torch._subclasses.fake_tensor import (
        DynamicOutputShapeException,
        FakeCopyMode,
        FakeTensor,
        FakeTensorMode,
        UnsupportedOperatorException,
    )
    from torch.autograd.graph import _engine_run_backward
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._python_dispatch import _disable_current_modes as no_modes
    from torch.utils._pytree import tree_map_only
except ImportError as error:
    raise ImportError(
        f'MMLocal finds cut points and plans memory on fake tensors, and '
        f'torch {torch.__version__} has moved what it needs for that '
        f'({error}). Install a torch that this version of MMLocal is tested '
        'with (see README.md), or an MMLocal that knows this torch.'
    ) from error

__all__ = [
    'DynamicOutputShapeException',
    'FakeCopyMode',
    'FakeTensor',
    'FakeTensorMode',
    'TorchDispatchMode',
    'UnsupportedOperatorException',
    '_engine_run_backward',
    'no_dispatch',
    'no_modes',
    'tree_map_only',
]
