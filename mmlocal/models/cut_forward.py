"""A backbone's forward with something done at its boundaries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from inspect import signature
from typing import Any

from torch import Tensor, nn

from .graph import Crossing
from .joining import join
from .module_training import ask_for_gradient
from .structure import Path, floats, replaced
from .tracing import Argument


def cut_forward(
    backbone: nn.Module,
    cuts: Sequence[Crossing],
    args: tuple,
    at_boundary: Callable[[int, Tensor], Tensor],
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Run any backbone as it is; hooks replace features at its boundaries.

    Where several features meet, ``at_boundary`` is given them joined, and
    each goes on detached, unless it returns what it was given; their
    gradients are asked for if that of the joined one is. What else crosses a
    cut is detached where it is taken.

    Args:
        backbone (nn.Module): What runs.
        cuts (Sequence[Crossing]): What crosses the boundaries, in forward
            order.
        args (tuple): The backbone's; the first is a batch of images.
        at_boundary (Callable): Is given the number of the boundary and the
            feature there, and returns what goes on.
        kwargs (dict, optional): The backbone's.

    Returns:
        Any: The backbone's outputs.
    """
    image_size = next(iter(floats((args, kwargs)).values())).shape[-2:]
    hooks: list[tuple[str, Callable]] = [
        (name, _Detach(skips)) for name, skips in _by_module(cuts).items()
    ]
    # Behind those: what a head reads may come from earlier modules, too.
    for index, cut in enumerate(cuts):
        ask = partial(at_boundary, index)
        hooks.append((cut.name, partial(_enter, cut, ask, image_size)))
    # Before other hooks: those of FSDP gather the weights of what comes next.
    # By name at each forward: SyncBN conversion and the like replace modules.
    handles = [
        backbone.get_submodule(name).register_forward_pre_hook(
            hook, prepend=True, with_kwargs=True
        )
        for name, hook in reversed(hooks)
    ]
    try:
        return backbone(*args, **(kwargs or {}))
    finally:
        for handle in handles:
            handle.remove()


def _enter(
    cut: Crossing,
    at_boundary: Callable[[Tensor], Tensor],
    image_size: tuple[int, int],
    module: nn.Module,
    args: tuple,
    kwargs: dict,
) -> tuple[tuple, dict] | None:
    """Forward pre-hook of the submodule behind a cut."""
    taken = floats((args, kwargs))
    reads = tuple(as_called(module, path, taken) for path in cut.reads)
    reads = reads or tuple(taken)
    feats = [taken[path] for path in reads]
    if len(feats) == 1 and not cut.joined:
        return replaced((args, kwargs), {reads[0]: at_boundary(feats[0])})
    if not cut.parts:
        raise ValueError(
            f'{cut.name!r} takes {len(feats)} tensors, where a single feature '
            'is looked at: choose a submodule that takes one.'
        )
    feat = join(feats, cut.parts, image_size)
    passed = at_boundary(feat)
    if passed is feat:
        return None
    new = {path: taken[path].detach() for path in reads}
    if passed.requires_grad:
        new = {path: ask_for_gradient(part) for path, part in new.items()}
    return replaced((args, kwargs), new)


class _Detach:
    """Forward pre-hook of a submodule that takes what crosses a cut.

    Detached copies share memory.
    """

    def __init__(self, skips: Sequence[Argument]):
        self.skips = skips
        self.calls = 0

    def __call__(
        self, module: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict]:
        taken = floats((args, kwargs))
        paths = [
            as_called(module, skip.path, taken)
            for skip in self.skips
            if skip.call == self.calls
        ]
        new = {path: taken[path].detach() for path in paths if path in taken}
        self.calls += 1
        return replaced((args, kwargs), new)


def as_called(module: nn.Module, path: Path, taken: Collection[Path]) -> Path:
    """Where an argument is in this call, which may name it or not.

    BEiT's forward names one with a mask that it does not name without.

    Args:
        module (nn.Module): What is called.
        path (Path): In ``(args, kwargs)`` of another call.
        taken (Collection[Path]): Of the tensors in this one.
    """
    if path in taken:
        return path
    # Of the class: checkpointing stands in for the instance's.
    names = list(signature(type(module).forward).parameters)[1:]
    by_name, key, *inside = path
    if by_name:
        other = (0, names.index(key)) if key in names else path
    else:
        other = (1, names[key]) if key < len(names) else path
    return (*other, *inside) if (*other, *inside) in taken else path


def _by_module(cuts: Sequence[Crossing]) -> dict[str, list[Argument]]:
    found: dict[str, list[Argument]] = {}
    for cut in cuts:
        for skip in cut.skips:
            found.setdefault(skip.module, []).append(skip)
    return found
