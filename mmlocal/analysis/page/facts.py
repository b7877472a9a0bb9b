"""What a run is, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mmlocal.config import is_wrapped, schedule_of, trained_model, type_name

from .runs import FALLBACK_INTERVAL, Run

READ_OUT = re.compile(r'(module|ensemble)_(\d+)/(.+)')
LOCAL = re.compile(r'local_(\d+)\.(.+)')


def facts_of(run: Run) -> dict[str, str]:
    """What a reader asks first.

    Returns:
        dict[str, str]: Values by name; '' for what is not known.
    """
    cfg, versions = run.cfg, run.log.versions
    count = num_modules(run)
    gpus = [v for k, v in versions.items() if k.startswith('GPU')]
    libraries = [
        f'{name} {version}'
        for name, version in versions.items()
        if name not in ('PyTorch', *(k for k in versions if 'GPU' in k))
    ]
    begin = run.parts[0].begin
    return {
        'Config': config_name(run),
        'Modules K': '' if count is None else str(count),
        'Cut before': ', '.join(cuts_of(run)),
        'Local heads': ', '.join(methods_of(cfg)),
        'Modules train': schedule_of(cfg) if cfg else '',
        'Optimizer': _optimizer(cfg),
        'Batch size': str(
            (cfg.get('train_dataloader') or {}).get('batch_size', '')
        ),
        'Seed': _seed(run),
        'Trained': progress(run)[0],
        'Began': f'{begin:%Y-%m-%d %H:%M}' if begin else '',
        'Took': _duration(run),
        'PyTorch': versions.get('PyTorch', ''),
        'Libraries': ', '.join(libraries),
        'Device': ', '.join(gpus) or ('CPU' if versions else ''),
    }


def config_name(run: Run) -> str:
    """Of the config file, which a runner copies into the work dir."""
    files = sorted(run.path.glob('*.py'), key=lambda f: f.stat().st_mtime)
    return files[-1].stem if files else ''


def num_modules(run: Run) -> int | None:
    """K; None if neither config nor numbers tell."""
    if not run.cfg and not _counted(run):
        return None
    if run.log.boundaries is not None:
        return len(run.log.boundaries) + 1
    boundaries = local_backbone(run.cfg).get('boundaries', [])
    if isinstance(boundaries, list):
        return max(len(boundaries) + 1, _counted(run))
    return boundaries.get('num_modules') or _counted(run) or None


def cuts_of(run: Run) -> list[str]:
    """The first block of each next module, or the partition."""
    boundaries = local_backbone(run.cfg).get('boundaries', [])
    if isinstance(boundaries, list):
        return boundaries or run.log.boundaries or []
    options = {k: v for k, v in boundaries.items() if k != 'type'}
    words = ' '.join(f'{key}={value}' for key, value in options.items())
    partition = f'{type_name(boundaries.get("type"))} {words}'.strip()
    if run.log.boundaries:
        return [
            *run.log.boundaries[:-1],
            f'{run.log.boundaries[-1]} ({partition})',
        ]
    return [partition]


def methods_of(cfg: Mapping[str, Any]) -> list[str]:
    """Types of the local heads, each once, with what is set by a word."""
    if not cfg:
        return []
    backbone = local_backbone(cfg)
    heads = backbone.get('local_heads') or []
    heads = heads if isinstance(heads, list) else [heads]
    if not heads:
        return ['none: end to end'] if not backbone else ['none']
    return list(dict.fromkeys(map(_head, heads)))


def progress(run: Run) -> tuple[str, bool]:
    """How far a run came.

    Returns:
        tuple[str, bool]: In words, and whether it reached its end.
    """
    unit, total = _total(run)
    points = [*run.train, *run.val]
    reached = [p.epoch if unit == 'epochs' else p.iteration for p in points]
    pointer = run.path / 'last_checkpoint'
    text = pointer.read_text() if pointer.exists() else ''
    saved = re.search(rf'{unit[:4]}\w*_(\d+)\.pth', text)
    if saved:
        reached.append(int(saved[1]))
    done = max((value for value in reached if value is not None), default=0)
    if total is None:
        return f'{done:,.4g} {unit}', True
    # The last line of training stands somewhat before the end.
    if done >= total or (not saved and done + _interval(run, unit) >= total):
        return f'{total:,} {unit if total > 1 else unit[:-1]}', True
    return f'{done:,.4g} of {total:,} {unit}, unfinished', False


def local_backbone(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of local training; empty if it is end to end."""
    model = trained_model(cfg.get('model') or {})
    backbone = model.get('backbone') or {}
    return backbone if is_wrapped(backbone) else {}


def _counted(run: Run) -> int:
    """The largest module that the numbers are of, from 1."""
    keys = {key for p in [*run.train, *run.val] for key in p.values}
    read = [int(m[2]) for key in keys if (m := READ_OUT.fullmatch(key))]
    # The last module has local values only where it has a head.
    local = [int(m[1]) + 1 for key in keys if (m := LOCAL.fullmatch(key))]
    if read:
        return max(read)
    return max(local) + 1 if local else 0


def _head(head: Mapping[str, Any]) -> str:
    name = type_name(head.get('type')).removesuffix('Head')
    words = [
        key if value is True else f'{key} {value}'
        for key, value in head.items()
        if (isinstance(value, str) and key != 'type') or value is True
    ]
    nested = [
        f'{key} {type_name(value["type"])}'
        for key, value in head.items()
        if isinstance(value, Mapping) and 'type' in value
    ]
    details = ', '.join(words + nested)
    return f'{name} ({details})' if details else name


def _optimizer(cfg: Mapping[str, Any]) -> str:
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    if 'type' not in optimizer:
        return ''
    words = [type_name(optimizer['type'])]
    if 'lr' in optimizer:
        words.append(f'lr {optimizer["lr"]:g}')
    if 'Amp' in type_name(wrapper.get('type') or ''):
        words.append(f'{wrapper.get("dtype", "mixed precision")}')
    return ', '.join(words)


def _seed(run: Run) -> str:
    seed = (run.cfg.get('randomness') or {}).get('seed')
    if seed is None and run.log.seed is not None:
        return f'{run.log.seed} (drawn)'
    return '' if seed is None else str(seed)


def _duration(run: Run) -> str:
    spans = [
        part.log.end - part.begin
        for part in run.parts
        if part.log.end and part.begin
    ]
    if len(spans) < len(run.parts):
        return ''
    minutes, seconds = divmod(int(sum(spans, timedelta()).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours} h {minutes:02} min'
    return f'{minutes} min {seconds:02} s'


def _total(run: Run) -> tuple[str, int | None]:
    """The unit of a schedule, and how many it has."""
    loop = run.cfg.get('train_cfg') or {}
    count = num_modules(run) or 1
    for unit, names in (
        ('epochs', ('max_epochs', 'epochs')),
        ('iterations', ('max_iters', 'iters')),
    ):
        for name in names:
            value = loop.get(name)
            if isinstance(value, (list, tuple)):  # an entry a module
                return unit, sum(value)
            if value:
                return unit, value * (1 if 'max' in name else count)
    return ('epochs' if run.counts_epochs else 'iterations'), None


def _interval(run: Run, unit: str) -> float:
    """Between two lines of training."""
    hooks = run.cfg.get('default_hooks') or {}
    logger = hooks.get('logger') or {}
    interval = logger.get('interval', FALLBACK_INTERVAL)
    if unit == 'iterations':
        return interval
    size = run.log.iters_per_epoch
    return interval / size if size else 0
