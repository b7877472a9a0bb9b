"""Nested lists, tuples and dicts of tensors, and paths into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

from torch import Tensor

# Keys from the outside in: `(0, 1)` is `value[0][1]`.
Path = tuple[int | str, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What is no list, tuple or dict, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def flatten(value: Any) -> Iterator[Any]:
    """What is no list, tuple or dict."""
    return (leaf for _, leaf in leaves(value))


def floats(value: Any) -> dict[Path, Tensor]:
    """The floating tensors, by path."""
    return {
        path: leaf
        for path, leaf in leaves(value)
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    }


def replaced(value: Any, new: dict[Path, Any]) -> Any:
    """A copy with other leaves at some paths; the rest is shared."""
    if () in new:
        return new[()]
    inner: dict[int | str, dict[Path, Any]] = {}
    for path, leaf in new.items():
        inner.setdefault(path[0], {})[path[1:]] = leaf
    if not inner:
        return value
    items = copy(value) if isinstance(value, dict) else list(value)
    for key, each in inner.items():
        items[key] = replaced(items[key], each)
    if isinstance(value, tuple):
        named = hasattr(value, '_fields')
        return type(value)(*items) if named else type(value)(items)
    return items if isinstance(value, dict) else type(value)(items)


def map_leaves(value: Any, visit: Callable[[Any], Any]) -> Any:
    """A copy with each leaf replaced by what ``visit`` returns for it."""
    return replaced(value, {path: visit(v) for path, v in leaves(value)})
