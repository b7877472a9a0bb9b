"""A model as it was before its backbone was cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .step import LocalBackbone, unwrap


@contextmanager
def plain_backbone(model: nn.Module) -> Iterator[None]:
    """In here a model's backbone is the one inside, with the local heads.

    Args:
        model (nn.Module): As it is trained; nothing changes if its backbone
            is not cut.
    """
    model = unwrap(model)
    wrapped = getattr(model, 'backbone', None)
    if not isinstance(wrapped, LocalBackbone):
        yield
        return
    inner = wrapped.backbone
    if len(wrapped.local_heads):
        inner.add_module('local_heads', wrapped.local_heads)
    model.backbone = inner
    try:
        yield
    finally:
        model.backbone = wrapped
        if len(wrapped.local_heads):
            del inner.local_heads
