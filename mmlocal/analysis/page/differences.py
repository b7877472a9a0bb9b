"""Which settings of configs are not the same."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.runner import Runner

from mmlocal.config import EXTRA_KEYS, trained_model, type_name

from .facts import local_backbone
from .runs import Run

# Of a config's top level: the rest are names inside of the file.
READ = {*inspect.signature(Runner).parameters, *EXTRA_KEYS}
# Different in all runs, or of no consequence for what they learn.
NOT_COMPARED = ('work_dir', 'resume', 'cfg', 'experiment_name')


def differences(runs: Sequence[Run]) -> dict[str, list[str | None]]:
    """Settings that are not the same in all configs.

    The backbone inside of a ``LocalSupervisedBackbone`` is compared with a
    plain one.

    Args:
        runs (Sequence[Run]): At least one.

    Returns:
        dict[str, list[str | None]]: A value a run by dotted key; None where
        a config does not have it.
    """
    flat = [dict(_flatten(_comparable(run.cfg), '')) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = {key: [one.get(key) for one in flat] for key in keys}
    return {
        key: values
        for key, values in sorted(rows.items())
        if len(set(values)) > 1 and key.split('.')[0] not in NOT_COMPARED
    }


def _comparable(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What a training reads; a wrapped backbone in a plain one's place."""
    read = {
        key: value
        for key, value in cfg.items()
        if key in READ and not key.startswith(('test_', 'tta_'))
    }
    for key in ('custom_hooks', 'param_scheduler', 'val_evaluator'):
        if isinstance(read.get(key), Mapping):  # short for a list of one
            read[key] = [read[key]]
    outer = local_backbone(cfg)
    if outer:
        inner = outer.get('backbone') or {}
        keep = {k: outer[k] for k in outer if k not in ('type', 'backbone')}
        model = trained_model(cfg['model'])
        read['model'] = {**model, 'backbone': {**inner, **keep}}
    return read


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Leaves by dotted keys; a part of a list goes by its type."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != '_scope_':
                yield from _flatten(inner, f'{path}.{key}' if path else key)
    elif path.rpartition('.')[2] == 'type':
        yield path, type_name(value)
    elif not _is_list_of_parts(value):
        yield path, value if isinstance(value, str) else repr(value)
    elif path.endswith('pipeline'):
        yield path, ' → '.join(map(_call, value))
    else:
        seen: list[str] = []
        for part in value:
            seen.append(name := type_name(part['type']))
            number = f'#{seen.count(name)}' if name in seen[:-1] else ''
            yield from _flatten(part, f'{path}.{name}{number}')


def _is_list_of_parts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(
        isinstance(part, Mapping) and 'type' in part for part in value
    )


def _call(part: Mapping[str, Any]) -> str:
    words = ', '.join(f'{k}={part[k]!r}' for k in part if k != 'type')
    return type_name(part['type']) + (f'({words})' if words else '')
