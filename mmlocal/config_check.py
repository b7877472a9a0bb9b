"""What is mistyped in a config, before anything is built."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union

from mmengine.registry import Registry

from . import registry as registries

PREFIX = 'mmlocal.'
# What mmengine takes out of a config before it builds a class.
MMENGINE_KEYS = (
    'type',
    '_delete_',
    '_scope_',
    'constructor',
    'convert_to_iter_based',
    'paramwise_cfg',
    'priority',
)
# Annotations that a value can be held against.
PLAIN = (bool, int, float, str, NoneType)


def check_config(cfg: Mapping[str, Any], path: str = '') -> None:
    """Check every part of a config that is of MMLocal.

    Args:
        cfg (Mapping): A whole config, or a part of one.
        path (str): The keys that lead to a part. Defaults to ''.

    Raises:
        ValueError: For a type of MMLocal that does not exist or lacks its
            prefix, and for a key or kind of value that its class does not
            take: names the key, and what was probably meant.
    """
    node = dict(cfg.items())  # mmengine's Config is no Mapping
    for problem in problems_of(node, node.get('default_scope'), path):
        raise ValueError(problem)


def problems_of(node: Any, scope: str | None, path: str = '') -> Iterator[str]:
    """The lines of :func:`check_config`, one a mistake.

    Args:
        node (Any): A config, or what is in it.
        scope (str, optional): In which types without a prefix are looked up.
        path (str): Keys that lead to ``node``.
    """
    if isinstance(node, Mapping):
        kind = node.get('type')
        if isinstance(kind, str):
            scope = node.get('_scope_') or scope
            yield from _type_problems(kind, scope, path)
            if kind.startswith(PREFIX):
                kind = _ours().get(kind.removeprefix(PREFIX))
        if inspect.isclass(kind) and kind in _ours().values():
            yield from _key_problems(kind, node, path)
        children: Any = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    else:
        return
    for key, child in children:
        yield from problems_of(child, scope, f'{path}.{key}'.lstrip('.'))


def _type_problems(kind: str, scope: str | None, path: str) -> Iterator[str]:
    ours = _ours()
    place = f'{path}.type'.lstrip('.')
    if kind.startswith(PREFIX):
        name = kind.removeprefix(PREFIX)
        if name not in ours and not _is_known(kind, None):
            yield f'{place}={kind!r}: MMLocal has no {name}{_hint(name, ours)}'
    elif '.' not in kind and kind in ours and not _is_known(kind, scope):
        yield f'{place}={kind!r} needs its prefix: write {PREFIX + kind!r}.'


def _key_problems(kind: type, node: Mapping, path: str) -> Iterator[str]:
    known, open_ended = _parameters(kind)
    for key, value in node.items():
        if key in MMENGINE_KEYS:
            continue
        place = f'{path}.{key}'.lstrip('.')
        if key not in known:
            close = get_close_matches(key, known, n=1)
            # What takes any argument hands it on to another class.
            if close or not open_ended:
                yield (
                    f'{place}: {kind.__name__} has no {key}'
                    + _hint(key, known)
                    + ' If the key is inherited, write _delete_=True beside '
                    'type.' * (not close)
                )
        elif not _fits(value, known[key]):
            yield (
                f'{place}={value!r} is {_spell(type(value))}: '
                f'{kind.__name__} takes {_spell(known[key])}.'
            )


def _ours() -> dict[str, type]:
    """Everything that MMLocal registers, by name."""
    found: dict[str, type] = {}
    for each in _registries():
        each.import_from_location()
        found.update(each.module_dict)
    return found


def _registries() -> list[Registry]:
    return [
        each
        for each in vars(registries).values()
        if isinstance(each, Registry)
        and each.scope == 'mmlocal'
        and each is not registries.FUNCTIONS  # which others have no child of
    ]


def _is_known(name: str, scope: str | None) -> bool:
    """Whether a type is registered, as seen from a scope."""
    for each in _registries():
        root = each.root
        if scope and root is not each:
            with root.switch_scope_and_registry(scope) as inner:
                if inner.scope != 'mmlocal' and inner.get(name):
                    return True
        elif root.get(name):
            return True
    return False


@cache
def _parameters(kind: type) -> tuple[dict[str, Any], bool]:
    """Arguments by name with their annotations; whether any other goes."""
    known: dict[str, Any] = {}
    open_ended = False
    for cls in kind.__mro__:
        init = vars(cls).get('__init__')
        if init is None:
            continue
        # A class of another library may hand arguments on to a third one.
        open_ended |= cls is not kind and _is_foreign(cls)
        try:
            hints = typing.get_type_hints(init)
        except (NameError, TypeError):
            hints = {}
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for each in parameters:
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
                known.setdefault(each.name, hints.get(each.name, Any))
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return known, open_ended


def _is_foreign(cls: type) -> bool:
    return not cls.__module__.startswith(PREFIX)


def _fits(value: Any, annotation: Any) -> bool:
    """False if a number, text or None stands where another kind belongs."""
    if not isinstance(value, PLAIN):
        return True
    kinds = _union(annotation)
    if kinds is None:
        return True
    return any(
        isinstance(value, kind)
        and not (isinstance(value, bool) and kind is not bool)
        or (kind is float and type(value) is int)
        for kind in kinds
    )


def _union(annotation: Any) -> list[type] | None:
    """The classes of an annotation; None if one is something else."""
    if typing.get_origin(annotation) in (Union, UnionType):
        members = typing.get_args(annotation)
    else:
        members = (annotation,)
    kinds = [typing.get_origin(each) or each for each in members]
    if not all(inspect.isclass(each) for each in kinds):
        return None
    return kinds


def _spell(annotation: Any) -> str:
    kinds = _union(annotation) or []
    names = {
        'NoneType': 'None',
        'Sequence': 'a list',
        'list': 'a list',
        'tuple': 'a tuple',
        'Mapping': 'a dict',
        'dict': 'a dict',
        'int': 'a whole number',
        'float': 'a number',
        'str': 'text',
        'bool': 'True or False',
    }
    return ' or '.join(
        dict.fromkeys(
            names.get(each.__name__, each.__name__) for each in kinds
        )
    )


def _hint(name: str, known: Any) -> str:
    close = get_close_matches(name, known, n=2)
    if close:
        return f'; did you mean {" or ".join(close)}?'
    return f'; there are {", ".join(sorted(known))}.'
