"""Activation checkpointing of a backbone's blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.checkpoint import checkpoint

from .blocks import innermost_blocks
from .selective import (
    OVERWRITTEN,
    Overwriting,
    casts,
    changes_from_forward_to_forward,
    compiled_contexts,
    selective_contexts,
)

MODES = (None, 'block', 'selective')
# Of the tensors that a block is given, by number, those that it changes in
# place: known from its first forward on.
_CHANGED: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()
aten = torch.ops.aten


def parse_modes(
    checkpointing: str | Sequence[str | None] | None, num_modules: int
) -> list[str | None]:
    """One mode a module.

    Args:
        checkpointing (str | Sequence[str | None], optional): 'block',
            'selective' or None for all modules, or one of them a module.
        num_modules (int): K.

    Raises:
        ValueError: If a mode is unknown or their number is not K.
    """
    if checkpointing is None or isinstance(checkpointing, str):
        modes = [checkpointing] * num_modules
    else:
        modes = list(checkpointing)
    for mode in modes:
        if mode not in MODES:
            raise ValueError(
                f'model.backbone.checkpointing: {mode!r} is unknown; write '
                "'block', 'selective' or None, or a list of them, one a "
                'module.'
            )
    if len(modes) != num_modules:
        raise ValueError(
            f'model.backbone.checkpointing has {len(modes)} entries for '
            f'{num_modules} modules (one more than boundaries): write one a '
            'module, or a single one for all.'
        )
    return modes


def assign_blocks(
    backbone: nn.Module,
    modes: Sequence[str | None],
    boundaries: Sequence[str],
    order: Sequence[str],
) -> dict[str, str]:
    """Which blocks are checkpointed, and how.

    A block that holds a boundary is left as it is: it would run twice.

    Args:
        backbone (nn.Module): Holds the blocks.
        modes (Sequence[str | None]): One a module.
        boundaries (Sequence[str]): The first block of each next module.
        order (Sequence[str]): Submodules in the order of the forward. May be
            empty if there are no boundaries.

    Returns:
        dict[str, str]: Mode by name of the block.

    Raises:
        ValueError: If a module is to be checkpointed that has no block.
    """
    position = {name: index for index, name in enumerate(order)}
    starts = [position[name] for name in boundaries]
    found: dict[str, str] = {}
    empty = {index for index, mode in enumerate(modes) if mode}
    for name in innermost_blocks(backbone):
        if boundaries and name not in position:
            continue
        index = sum(start <= position[name] for start in starts)
        if any(cut.startswith(f'{name}.') for cut in boundaries):
            continue
        if modes[index]:
            found[name] = modes[index]
            empty.discard(index)
    if empty and not found:
        kind = type(backbone).__name__
        if any(True for _ in innermost_blocks(backbone)):
            raise ValueError(
                f'model.backbone.checkpointing: module {min(empty) + 1} of '
                f'{len(modes)} of this {kind} holds no whole block, a stem '
                'alone perhaps: write None for it.'
            )
        raise ValueError(
            f'model.backbone.checkpointing: {kind} has no list of blocks (a '
            'ModuleList or Sequential of modules with layers) that could be '
            'checkpointed; leave it out.'
        )
    return found


def take_over_with_cp(backbone: nn.Module) -> bool:
    """Switch mm's own checkpointing off; whether it was on.

    mm's ``with_cp`` is reentrant: behind a boundary, where no gradient is
    asked of the input, it leaves the block out
    (https://github.com/pytorch/pytorch/issues/7617), and BatchNorm's
    statistics move twice a step.
    """
    modules = [m for m in backbone.modules() if getattr(m, 'with_cp', False)]
    for module in modules:
        module.with_cp = False
    return bool(modules)


def checkpoint_blocks(backbone: nn.Module, blocks: dict[str, str]) -> None:
    """Recompute blocks in backward instead of keeping their activations.

    'block' keeps a block's inputs alone. 'selective' also keeps the outputs
    of attention and of matrix products and convolutions that do not just
    expand channels, and recomputes the rest: normalization, activations and
    expanding 1x1 convolutions and linear layers.

    Running statistics move once a step, random numbers are replayed, and the
    block behind a detached boundary trains.

    Args:
        backbone (nn.Module): Holds the blocks.
        blocks (dict[str, str]): Mode by name of the block.
    """
    release_blocks(backbone)
    for name, mode in blocks.items():
        block = backbone.get_submodule(name)
        block.forward = _CheckpointedForward(block, mode)


@contextmanager
def watch_changes(backbone: nn.Module) -> Iterator[None]:
    """In here a plain forward tells what blocks change in place.

    Otherwise the first forward with checkpointing finds it out, and for that
    once copies all inputs and keeps no products.
    """
    before: dict[nn.Module, dict[int, int]] = {}
    watches: dict[nn.Module, Overwriting] = {}

    def enter(block: nn.Module, args: tuple, kwargs: dict) -> None:
        before[block] = _versions(tree_flatten((args, kwargs))[0])
        watches[block] = Overwriting()
        watches[block].__enter__()

    def leave(block: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        watch = watches.pop(block)
        watch.__exit__(None, None, None)
        OVERWRITTEN[block] = watch.numbers
        _CHANGED[block] = _changed(
            tree_flatten((args, kwargs))[0], before[block]
        )

    handles = []
    for block in map(backbone.get_submodule, innermost_blocks(backbone)):
        handles += [
            block.register_forward_pre_hook(enter, with_kwargs=True),
            block.register_forward_hook(leave, with_kwargs=True),
        ]
    try:
        yield
    finally:
        # Of a block that has raised.
        for watch in watches.values():
            watch.__exit__(None, None, None)
        for handle in handles:
            handle.remove()


def release_blocks(backbone: nn.Module) -> None:
    """Undo :func:`checkpoint_blocks`."""
    for block in backbone.modules():
        if isinstance(block.__dict__.get('forward'), _CheckpointedForward):
            del block.forward


def again_in_backward(
    run: Callable[[Tensor], Tensor], feat: Tensor, holder: nn.Module
) -> Tensor:
    """Keep the input alone, and run again in backward.

    Running statistics move once, random numbers are replayed.

    Args:
        run (Callable): What runs.
        feat (Tensor): Its input.
        holder (nn.Module): Whose layers it calls.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _held_statistics(holder)

    return checkpoint(run, feat, use_reentrant=False, context_fn=contexts)


class _CheckpointedForward:
    """Stands in for ``block.forward``: no wrapper module, so that names and
    checkpoint keys stay, and both copies and pickles of a model work."""

    def __init__(self, block: nn.Module, mode: str):
        self.block, self.mode = block, mode
        self.forward = block.forward
        self.in_place: list[nn.Module] = []
        if mode == 'selective':
            self.in_place = [
                layer
                for layer in block.modules()
                if getattr(layer, 'inplace', False) is True
            ]

    def __call__(self, *args, **kwargs) -> Any:
        if not (torch.is_grad_enabled() and self.block.training):
            return self.forward(*args, **kwargs)
        if torch.compiler.is_compiling():
            # There the graph is functional: statistics move once anyway, and
            # contexts must be constants of the module.
            options = {}
            if self.mode == 'selective':
                options['context_fn'] = compiled_contexts
            return checkpoint(
                self.forward, *args, use_reentrant=False, **options, **kwargs
            )
        # The caller may append to a list that it has passed.
        args, kwargs = tree_map(_same, (args, kwargs))
        return checkpoint(
            partial(self._run, _CHANGED.get(self.block)),
            *args,
            use_reentrant=False,
            context_fn=self._contexts,
            **kwargs,
        )

    def _run(self, changed: set[int] | None, *args, **kwargs) -> Any:
        """The block, on copies of what it changes in place.

        Its inputs are run on once more in backward.

        Args:
            changed (set[int], optional): Which of them; None: not known yet.
        """
        leaves, tree = tree_flatten((args, kwargs))
        copies = {
            number: leaf.clone()
            for number, leaf in enumerate(leaves)
            if isinstance(leaf, Tensor)
            and (changed is None or number in changed)
        }
        leaves = [copies.get(i, leaf) for i, leaf in enumerate(leaves)]
        args, kwargs = tree_unflatten(leaves, tree)
        before = _versions(leaves)
        with _out_of_place(self.in_place), casts(self.mode):
            outputs = self.forward(*args, **kwargs)
        now = _changed(leaves, before)
        if changed is None:
            _CHANGED[self.block] = now
        elif not now <= changed:
            raise RuntimeError(
                changes_from_forward_to_forward(self.block, 'its input')
            )
        return outputs

    def _contexts(
        self,
    ) -> tuple[AbstractContextManager, AbstractContextManager]:
        held = _held_statistics(self.block)
        if self.mode == 'block':
            return nullcontext(), held
        keep, recompute = selective_contexts(self.block)
        return keep, _both(held, recompute)


@contextmanager
def _held_statistics(block: nn.Module) -> Iterator[None]:
    """Let layers in training move scratch buffers, not their statistics.

    torch would move these a second time
    (https://github.com/pytorch/pytorch/issues/96136). Autograd saves the
    buffers, so that a layer without any would not match the first forward.
    """
    saved = []
    for layer in block.modules():
        tracks = getattr(layer, 'running_mean', None) is not None
        if isinstance(layer, _NormBase) and layer.training and tracks:
            saved.append((layer._buffers, dict(layer._buffers)))
            layer._buffers.update(
                running_mean=torch.empty_like(layer.running_mean),
                running_var=torch.empty_like(layer.running_var),
                # SyncBatchNorm insists on one.
                num_batches_tracked=torch.zeros_like(
                    layer.num_batches_tracked
                ),
            )
    try:
        yield
    finally:
        for buffers, values in saved:
            buffers.update(values)


@contextmanager
def _out_of_place(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Let activations leave alone what they read, as it may be kept."""
    for layer in layers:
        layer.inplace = False
    try:
        yield
    finally:
        for layer in layers:
            layer.inplace = True


def _versions(leaves: Sequence[Any]) -> dict[int, int]:
    """How often each tensor has been changed in place, by its number."""
    return {
        number: leaf._version
        for number, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor)
    }


def _changed(leaves: Sequence[Any], before: dict[int, int]) -> set[int]:
    """Numbers of the tensors that have been changed since."""
    return {
        number
        for number, version in _versions(leaves).items()
        if version != before.get(number, version)
    }


def _same(value: Any) -> Any:
    return value


@contextmanager
def _both(
    first: AbstractContextManager, second: AbstractContextManager
) -> Iterator[None]:
    with first, second:
        yield
