"""Weights of a training, and which they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from mmlocal.apis.checkpoints import load_checkpoint, weights_of


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint into the model that it was saved of.

    Args:
        model (nn.Module): With local heads, if the checkpoint has them.
        path (str | Path): A file.

    Returns:
        dict: Its place in a :class:`~.record.MeasureFile`: ``checkpoint``, its
        name, ``epoch`` and ``iter``, None if they are not in it, and
        ``file``, by which another one of this name is told from it.

    Raises:
        ValueError: If it is no checkpoint, or does not fit to the last key.
    """
    checkpoint = load_checkpoint(path)
    try:
        model.load_state_dict(weights_of(checkpoint))
    except RuntimeError as error:
        raise ValueError(f'{path} does not fit the config: {error}') from None
    meta = checkpoint.get('meta') or {}
    stat = Path(path).stat()
    return {
        'checkpoint': Path(path).name,
        'epoch': meta.get('epoch'),
        'iter': meta.get('iter'),
        'file': [stat.st_size, stat.st_mtime_ns],
    }
