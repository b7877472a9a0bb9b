"""Load checkpoints without running what is in them."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

OPENMMLAB = ('mmengine.', 'mmcv.', 'mmseg.', 'mmpretrain.', 'mmlocal.')
# What torch raises for files that are cut short or none of its own.
DAMAGED = (RuntimeError, EOFError, KeyError, ValueError, AttributeError)


def safe_load(path: str | Path, map_location: Any = 'cpu') -> Any:
    """Load a file of ``torch.save``.

    It is a pickle, which may call anything. Here it may make tensors, plain
    containers, NumPy arrays and scalars, and of OpenMMLab's classes the
    histories, schedulers and annotations that a run is resumed with; others
    become empty objects. Whoever trusts a file that needs more sets torch's
    own ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``.

    Args:
        path (str | Path): A local file.
        map_location (Any): As of :func:`torch.load`. Defaults to 'cpu'.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or holds more than that.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    try:
        with torch.serialization.safe_globals(_allowed(path)):
            # weights_only is torch's default, which the variable overrides.
            return torch.load(path, map_location)
    except UnpicklingError as error:
        culprit = _culprit(error)
        if culprit is None:
            raise ValueError(_damaged(path, error)) from error
        raise ValueError(
            f'{path} was not loaded: beside weights it holds objects whose '
            f'loading can run code ({culprit}). If you made it yourself, save '
            'its state_dict alone with torch.save, or set '
            'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the environment; if you '
            'do not trust who made it, do not load it anywhere.'
        ) from error
    except DAMAGED as error:
        raise ValueError(_damaged(path, error)) from error


def load_safely_in_mmengine() -> None:
    """Let mmengine load files and URLs with :func:`safe_load`.

    By itself it falls back to an unrestricted load, with a warning, for a
    file that holds more than it knows.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    for prefixes, loader in (
        ('', load_from_local),
        (('http://', 'https://'), load_from_http),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """What mmengine calls for a file."""
    return safe_load(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> Any:
    """What mmengine calls for a URL; kept as :mod:`torch.hub` does."""
    from mmengine.dist import barrier, is_main_process

    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / filename.partition('?')[0].rpartition('/')[2]
    if is_main_process() and not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            filename, str(path), progress=os.isatty(0)
        )
    barrier()
    return safe_load(path, map_location)


class _Empty:
    """Stands for an object of OpenMMLab, whose class is not even imported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _method(owner: Any, name: str) -> Any:
    """Stands for getattr, by which pickles name methods.

    The real one leads anywhere.
    """
    if isinstance(owner, type) and _is_harmless(owner):
        return None if name.startswith('__') else getattr(owner, name)
    return None


def _is_harmless(kind: type) -> bool:
    from mmengine.logging import HistoryBuffer
    from mmengine.optim import _ParamScheduler

    return issubclass(kind, (HistoryBuffer, _ParamScheduler))


def _allowed(path: Path) -> list:
    """What may be made, by the name that the pickle has for it."""
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
    allowed.append((_method, 'builtins.getattr'))
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError):  # a file of before torch 1.6
        names = ['mmengine.logging.history_buffer.HistoryBuffer']
    return allowed + [
        (_class(name), name) for name in names if name.startswith(OPENMMLAB)
    ]


def _class(name: str) -> type:
    """The class of this name, if it is of use and does no harm."""
    module, _, attribute = name.rpartition('.')
    if module.startswith(
        ('mmengine.logging.', 'mmengine.optim.', 'mmlocal.engine.schedulers')
    ):
        found = getattr(import_module(module), attribute, None)
        if isinstance(found, type) and _is_harmless(found):
            return found
    if re.match(r'mm(engine|pretrain|seg)\.structures\.', module):
        from mmengine.structures import BaseDataElement

        found = getattr(import_module(module), attribute, None)
        if isinstance(found, type) and issubclass(found, BaseDataElement):
            return found
    return _Empty


def _culprit(error: UnpicklingError) -> str | None:
    """Which object is in the way; None if that is not the problem."""
    found = re.search(r'GLOBAL ([\w.]+)|function <(.+?)>', str(error))
    return (found[1] or found[2]) if found else None


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f'{path} is no checkpoint of PyTorch, or is damaged: {reason}'
