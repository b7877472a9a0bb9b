"""Options on top of a config, and which of them something would read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmlocal.config import EXTRA_KEYS


def read_config(path: str | Path, options: dict[str, Any]) -> Config:
    """Read a config and set options in it.

    Args:
        path (str | Path): Of the config.
        options (dict[str, Any]): Values by dotted keys.

    Raises:
        ValueError: See :func:`check_options`.
    """
    cfg = Config.fromfile(path)
    check_options(cfg, options)
    cfg.merge_from_dict(options)
    return cfg


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Refuse options that would be merged into the config and never read.

    A new key is let through where a class or function is given the
    surroundings as arguments: it refuses what it does not know.

    Args:
        cfg (Config): What the options are for.
        options (dict[str, Any]): Values by dotted keys.

    Raises:
        ValueError: For a misspelt key; says what to write instead.
    """
    known = {*inspect.signature(Runner).parameters, *EXTRA_KEYS} - {'cfg'}
    for key in options:
        first, *rest = key.split('.')
        if first not in known:
            raise ValueError(_unknown_message(cfg, key, first, known))
        if first in cfg:
            _check_path(key, cfg[first], rest, first)


def _unknown_message(
    cfg: Config, key: str, first: str, known: set[str]
) -> str:
    if first not in cfg:
        close = get_close_matches(first, known, n=1)
        hint = f'did you mean {close[0]}?' if close else _list(known & {*cfg})
        return f'--cfg-options {key}: the config has no {first}; {hint}'
    message = (
        f'--cfg-options {key}: {first} is a name inside the config file, and '
        'has been read already. Set it where it is used'
    )
    places = [
        path
        for top in known & {*cfg}
        for path in _paths(cfg[top], top)
        if path.endswith(f'.{first}')
    ]
    return f'{message}: {", ".join(sorted(places))}' if places else message


def _check_path(key: str, node: Any, parts: list[str], path: str) -> None:
    if not parts:
        return
    part, *rest = parts
    if isinstance(node, (list, tuple)):
        if not part.isdigit() or int(part) >= len(node):
            raise ValueError(
                f'--cfg-options {key}: {path} is a list of {len(node)}; '
                f'write a number below {len(node)} for {part!r}.'
            )
        _check_path(key, node[int(part)], rest, f'{path}.{part}')
    elif not isinstance(node, dict):
        raise ValueError(
            f'--cfg-options {key}: {path} is {node!r}, which has no {part!r}.'
        )
    elif part in node:
        _check_path(key, node[part], rest, f'{path}.{part}')
    elif 'type' not in node:
        close = get_close_matches(part, node, n=1, cutoff=0.8)
        if close:
            raise ValueError(
                f'--cfg-options {key}: {path} has no {part!r}; did you mean '
                f'{close[0]!r}?'
            )


def _paths(node: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _paths(value, f'{path}.{key}')


def _list(names: set[str]) -> str:
    return f'it has {", ".join(sorted(names))}.'
