"""What an optimizer keeps from step to step."""

from __future__ import annotations

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmlocal.fake_tensors import FakeOps, FakeTensorMode


def fill_state(
    model: nn.Module, wrap: OptimWrapper, mode: FakeTensorMode | None
) -> None:
    """Let an optimizer make its state, by a step with gradients of zeros.

    Args:
        model (nn.Module): Whose weights it has; their gradients go.
        wrap (OptimWrapper): Of the optimizer.
        mode (FakeTensorMode, optional): Of the weights; None if they are
            real.
    """
    for weight in model.parameters():
        if weight.requires_grad:
            weight.grad = torch.zeros_like(weight)
    # Some read numbers, as LARS the norms of weights.
    with FakeOps(mode):
        wrap.optimizer.step()
    wrap.optimizer.zero_grad()


def state_of(wrap: OptimWrapper) -> list[Tensor]:
    """The tensors of its state."""
    return [
        value
        for state in wrap.optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
