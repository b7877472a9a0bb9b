"""Fake tensors: shapes, strides and lifetimes without memory."""

from .ops import (
    FakeOps,
    fake_copy,
    fake_input,
    fake_mode,
    run_backward,
    tensors_of,
    uninitialized_weights,
)
from .private import FakeTensorMode, TorchDispatchMode

__all__ = [
    'FakeOps',
    'FakeTensorMode',
    'TorchDispatchMode',
    'fake_copy',
    'fake_input',
    'fake_mode',
    'run_backward',
    'tensors_of',
    'uninitialized_weights',
]
