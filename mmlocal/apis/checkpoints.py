"""Read checkpoints without running what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of mmengine, mmcv or plain PyTorch onto the CPU.

    A checkpoint is a pickle, which may call anything. Here it may make
    tensors, plain containers, NumPy arrays and scalars, and nothing else.
    Objects of OpenMMLab's classes, as message hub and schedulers hold them,
    become empty ones.

    Args:
        path (str | Path): A local file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no checkpoint, or holds more than weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    try:
        with torch.serialization.safe_globals(_allowed(path)):
            checkpoint = torch.load(path, 'cpu', weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f'{path} was not loaded: beside weights it holds objects whose '
            f'loading can run code{_culprit(error)}. If you made it '
            'yourself, save its state_dict alone with torch.save; if not, '
            'do not load it anywhere.'
        ) from error
    except (RuntimeError, EOFError, KeyError) as error:
        raise ValueError(
            f'{path} is no checkpoint of PyTorch, or is damaged: {error}'
        ) from error
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


class _Empty:
    """Stands for an object of OpenMMLab, whose class is not even imported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _no_attribute(*args: Any) -> None:
    """Stands for getattr, by which pickles name methods."""


def _allowed(path: Path) -> list:
    """What may be made, by the name that the pickle has for it.

    mmengine's own list has the real ``getattr``, which leads anywhere.
    """
    multiarray = np._core.multiarray
    functions = {
        '_reconstruct': multiarray._reconstruct,
        'scalar': multiarray.scalar,
    }
    allowed = [
        (function, f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')  # NumPy 1 and 2
        for name, function in functions.items()
    ]
    kinds = ('?', 'i1', 'u1', 'i2', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8')
    allowed += [np.ndarray, np.dtype, *{type(np.dtype(k)) for k in kinds}]
    allowed.append((_no_attribute, 'builtins.getattr'))
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError):  # a file of before torch 1.6
        names = ['mmengine.logging.history_buffer.HistoryBuffer']
    openmmlab = ('mmengine.', 'mmcv.', 'mmseg.', 'mmpretrain.', 'mmlocal.')
    return allowed + [(_Empty, n) for n in names if n.startswith(openmmlab)]


def _culprit(error: UnpicklingError) -> str:
    """Which object is in the way, as far as torch tells."""
    found = re.search(r'GLOBAL ([\w.]+)|function <(.+?)>', str(error))
    return f' ({found[1] or found[2]})' if found else ''
