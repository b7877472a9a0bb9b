"""From a training of MMLocal to files that need none of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from ..zoo import get_config
from .stock import plain_config

# What of a checkpoint's `meta` describes the weights.
META = ('dataset_meta', 'epoch', 'iter', 'CLASSES', 'PALETTE')


class Exported(NamedTuple):
    """The two files that :func:`export` writes."""

    config: Path
    checkpoint: Path


def export(
    name: str | Path | Config,
    checkpoint: str | Path | None = None,
    out_dir: str | Path = '.',
) -> Exported:
    """Write the plain model: a config and a checkpoint for stock mm.

    mmseg's ``init_model`` and mmpretrain's ``get_model`` take the two where
    MMLocal is not installed.

    Args:
        name (str | Path | Config): A name in the model zoo, or the config
            of the training, or its path.
        checkpoint (str | Path, optional): Of the training; by default the
            published weights of the name.
        out_dir (str | Path): Defaults to '.'.

    Returns:
        Exported: The paths of ``config`` and ``checkpoint``.

    Raises:
        ValueError: If the model has a part that only MMLocal has, or config
            and checkpoint do not belong together.

    Example:
        >>> import mmlocal
        >>> mmlocal.export('infopro_resnet101_imagenet', out_dir='out')
    """
    from ..zoo import get_model

    cfg = get_config(name)
    stem = Path(cfg.filename or 'model').stem
    if cfg.filename:
        stem = f'{Path(cfg.filename).parent.name}_{stem}'
    plain_config(cfg)  # raises before anything is written
    weights = True if checkpoint is None else checkpoint
    model = get_model(name, weights, device='cpu')
    meta = {'dataset_meta': dict(model.dataset_meta)}
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    config = export_config(cfg, out / f'{stem}.py')
    path = _save(
        {'meta': meta, 'state_dict': model.state_dict()}, out / f'{stem}.pth'
    )
    return Exported(config, path)


def publish_model(checkpoint: str | Path, out: str | Path) -> Path:
    """Write the weights of a training's checkpoint, and nothing else.

    Optimizer, schedulers, message hub and local heads go; the keys are those
    of the plain model. ``torch.load(weights_only=True)`` reads the file.

    Args:
        checkpoint (str | Path): Of a training; with an EMA, the averaged
            weights are what mmengine put under ``state_dict``.
        out (str | Path): The file, ``NAME.pth``; the date and the first 8
            digits of the sha256 are added:
            ``NAME_<YYYYMMDD>-<sha256>.pth``.

    Returns:
        Path: Of the file.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is no checkpoint, or holds more than weights.
    """
    from ..zoo.checkpoints import (
        load_checkpoint,
        weights_of,
        without_local_heads,
    )

    loaded = load_checkpoint(checkpoint)
    weights = without_local_heads(weights_of(loaded))
    meta = loaded.get('meta') or {}
    kept = {key: _basic(meta[key]) for key in META if key in meta}
    return _save({'meta': kept, 'state_dict': weights}, Path(out))


def export_config(config: str | Path | Config, out: str | Path) -> Path:
    """Write the config of the plain model.

    Args:
        config (str | Path | Config): A config, its path or a name in the
            model zoo.
        out (str | Path): The file to write, ``*.py``.

    Returns:
        Path: Of the file. Its head says what is not as in ``config``.

    Raises:
        ValueError: If the model has a part that only MMLocal has.
    """
    cfg = get_config(config)
    plain, notes = plain_config(cfg)
    out = Path(out)
    if out.suffix != '.py':
        raise ValueError(f'{out}: write a name that ends in .py')
    head = [
        '# The plain model of a config of MMLocal, which it needs no more.'
    ]
    head += [f'# {line}' for line in notes]
    text = '\n'.join([*head, plain.pretty_text])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding='utf-8')
    for line in notes:
        print_log(line, 'current')
    return out


def _save(checkpoint: dict[str, Any], out: Path) -> Path:
    """Save atomically, with date and hash in the name."""
    import torch

    weights = {
        k: v.detach().cpu() for k, v in checkpoint['state_dict'].items()
    }
    checkpoint = {**checkpoint, 'state_dict': weights}
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f'{out.name}.{os.getpid()}.tmp')
    try:
        torch.save(checkpoint, draft)
        digest = sha256(draft.read_bytes()).hexdigest()[:8]
        name = f'{out.stem}_{date.today():%Y%m%d}-{digest}.pth'
        return draft.replace(out.with_name(name))
    finally:
        draft.unlink(missing_ok=True)


def _basic(value: Any) -> Any:
    """Plain containers and numbers, which any reader may load."""
    if isinstance(value, Mapping):
        return {key: _basic(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_basic(item) for item in value)
    return value.tolist() if hasattr(value, 'tolist') else value
