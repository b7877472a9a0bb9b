"""A backbone's forward with something done at its boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn

from .tracing import replace, single_tensor


def cut_forward(
    backbone: nn.Module,
    boundaries: Iterable[nn.Module],
    x: Tensor,
    at_boundary: Callable[[int, Tensor], Tensor],
) -> Any:
    """Run any backbone as it is; hooks replace features at its boundaries.

    Args:
        backbone (nn.Module): What runs.
        boundaries (Iterable[nn.Module]): The submodules whose input is cut,
            in forward order.
        x (Tensor): The backbone's input.
        at_boundary (Callable): Is given the number of the boundary and the
            feature there, and returns what goes on.

    Returns:
        Any: The backbone's outputs.
    """

    def hook(index: int, module: nn.Module, args: tuple, kwargs: dict):
        key = single_tensor(args, kwargs)
        feat = args[key] if isinstance(key, int) else kwargs[key]
        return replace(args, kwargs, key, at_boundary(index, feat))

    # Before other hooks: those of FSDP gather the weights of what comes next.
    handles = [
        module.register_forward_pre_hook(
            partial(hook, index), prepend=True, with_kwargs=True
        )
        for index, module in enumerate(boundaries)
    ]
    try:
        return backbone(x)
    finally:
        for handle in handles:
            handle.remove()
