"""Read checkpoints of any origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmlocal.safe_load import safe_load


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of mmengine, mmcv or plain PyTorch onto the CPU.

    What is in it is not run; see :func:`mmlocal.safe_load.safe_load`.

    Args:
        path (str | Path): A local file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no checkpoint, or holds more than weights.
    """
    checkpoint = safe_load(path)
    if not isinstance(checkpoint, Mapping):
        raise ValueError(
            f'{path} holds a {type(checkpoint).__name__}, not a dict of '
            'weights'
        )
    return dict(checkpoint)


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint, without the prefix of DDP.

    Args:
        checkpoint (Mapping): With the weights under ``state_dict`` or
            ``model``, or the weights themselves.

    Raises:
        ValueError: If there is something else than tensors among them.
    """
    weights = checkpoint
    for key in 'state_dict', 'model':
        if isinstance(checkpoint.get(key), Mapping):
            weights = checkpoint[key]
            break
    other = [k for k, v in weights.items() if not isinstance(v, Tensor)]
    if other or not weights:
        raise ValueError(
            f'there are no weights in the checkpoint; its keys are '
            f'{list(checkpoint)[:10]}'
        )
    if all(key.startswith('module.') for key in weights):
        return {k.removeprefix('module.'): v for k, v in weights.items()}
    return dict(weights)


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint into the model that it was saved of.

    Args:
        model (nn.Module): With local heads, if the checkpoint has them.
        path (str | Path): A file.

    Returns:
        dict: Which one it is, as a
        :class:`~mmlocal.analysis.record.MeasureFile` has it:
        ``checkpoint``, its name, ``epoch`` and ``iter``, None if
        they are not in it, and ``file``, by which another one of this name
        is told from it.

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


def without_local_heads(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of the plain model."""
    return {
        key: value
        for key, value in weights.items()
        if 'local_heads' not in key.split('.')
    }
