"""Selective checkpointing: which outputs of a block are kept for backward."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import (
    CheckpointPolicy,
    create_selective_checkpoint_contexts,
)

from mmlocal.fake_tensors import TorchDispatchMode

# Of the products of a block, by number, those that it changes in place: known
# from its first forward on.
OVERWRITTEN: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()
aten = torch.ops.aten
PRODUCTS = (
    aten.convolution.default,
    aten.addmm.default,
    aten.mm.default,
    aten.bmm.default,
)


def selective_contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager, AbstractContextManager]:
    """What a block runs in, in its forward and again in backward.

    The first forward keeps nothing, and looks at what is changed in place.
    Later ones make sure that they change nothing else.
    """
    overwritten = OVERWRITTEN.get(block)
    if overwritten is None:
        return _watched(block), nullcontext()
    keep, recompute = create_selective_checkpoint_contexts(
        _Policy(overwritten)
    )
    return _kept_as_it_is(block, keep, overwritten), recompute


@contextmanager
def casts(mode: str) -> Iterator[None]:
    """Cast weights anew, in the first forward and in backward alike.

    Selective checkpointing counts operators, and autocast remembers what it
    has cast before.
    """
    remembers = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(remembers and mode != 'selective')
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(remembers)


@contextmanager
def _watched(block: nn.Module) -> Iterator[None]:
    with Overwriting() as watch:
        yield
    OVERWRITTEN[block] = watch.numbers


@contextmanager
def _kept_as_it_is(
    block: nn.Module, keep: AbstractContextManager, known: Collection[int]
) -> Iterator[None]:
    """Raise where backward would compute with what has been overwritten."""
    with keep, Overwriting(known) as watch:
        yield
    if watch.numbers:
        raise RuntimeError(changes_from_forward_to_forward(block, 'a product'))


def changes_from_forward_to_forward(block: nn.Module, what: str) -> str:
    """Why a block cannot be recomputed."""
    return (
        f'{type(block).__name__} changes {what} in place, which it did not do '
        'in its first forward: recomputed, its gradients would be wrong. '
        'Write None for its module in model.backbone.checkpointing, or let '
        'it do the same in each forward.'
    )


class Overwriting(TorchDispatchMode):
    """Tells which products a block changes in place once it has them.

    torch finds it by the version of a tensor, which ``mm`` and ``bmm`` hide:
    their outputs are reshaped to tensors that count changes anew.

    Args:
        known (Collection[int]): Numbers of products to leave out.

    Attributes:
        numbers (set[int]): Of these, among the products worth their memory.
    """

    def __init__(self, known: Collection[int] = ()):
        super().__init__()
        self.known = known
        self.numbers: set[int] = set()
        self._seen = 0
        # So that no other tensor gets their storage.
        self._kept: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        out = func(*args, **(kwargs or {}))
        if _is_product(func):
            if self._seen not in self.known and _is_costly(func, args):
                self._kept[self._seen] = tree_flatten(out)[0][0]
            self._seen += 1
        elif func._schema.is_mutable:
            changed = {
                value.untyped_storage()._cdata
                for value, argument in zip(
                    args, func._schema.arguments, strict=False
                )
                if isinstance(value, Tensor)
                and argument.alias_info is not None
                and argument.alias_info.is_write
            }
            self.numbers |= {
                number
                for number, product in self._kept.items()
                if product.untyped_storage()._cdata in changed
            }
        return out


class _Policy:
    """Which products are kept.

    Args:
        overwritten (Collection[int]): Those that are not, by number.
    """

    def __init__(self, overwritten: Collection[int] = ()):
        self.overwritten = overwritten
        self.seen = {False: 0, True: 0}

    def __call__(self, ctx: Any, op: Any, *args, **kwargs) -> CheckpointPolicy:
        if not _is_product(op):
            return CheckpointPolicy.PREFER_RECOMPUTE
        number = self.seen[ctx.is_recompute]
        self.seen[ctx.is_recompute] += 1
        if number not in self.overwritten and _is_costly(op, args):
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE


def _stateless_policy(ctx: Any, op: Any, *args, **kwargs) -> CheckpointPolicy:
    return _Policy()(ctx, op, *args, **kwargs)


compiled_contexts = partial(
    create_selective_checkpoint_contexts, _stateless_policy
)


def _is_product(op: Any) -> bool:
    return op in PRODUCTS or 'scaled_dot_product' in op.__name__


def _is_costly(op: Any, args: tuple) -> bool:
    """Whether an output is worth its memory.

    A product costs as much compute for each byte of its output as it has
    channels that go in; one that expands makes more bytes than it takes.
    """
    if op is aten.convolution.default:
        weight = args[1]
        c_out, c_in = weight.shape[0], weight.shape[1] * args[8]
        return weight.shape[2:].numel() > 1 or c_out <= c_in
    if op is aten.addmm.default:
        return args[2].shape[1] <= args[2].shape[0]
    if op in (aten.mm.default, aten.bmm.default):
        return args[1].shape[-1] <= args[1].shape[-2]
    return True
