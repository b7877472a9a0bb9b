"""Makes the names of the model zoo known to other libraries.

Imports nothing of what it is for: it is read whenever ``mmlocal`` is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


def register_names() -> None:
    """Make the names of the model zoo known to mmengine and mmpretrain.

    Each is told when it is imported by someone else, so that this costs
    nothing before.
    """
    when_imported('mmengine.runner.checkpoint', _add_checkpoint_scheme)
    when_imported('mmpretrain.apis.model', _add_model_index)


def when_imported(name: str, call: Callable[[ModuleType], Any]) -> None:
    """Call something as soon as a module has been imported.

    Args:
        name (str): Full name of the module.
        call (Callable): Is given the module; at once, if it is there.
    """
    if name in sys.modules:
        call(sys.modules[name])
    else:
        sys.meta_path.insert(0, _AfterImport(name, call))


class _AfterImport(MetaPathFinder):
    """Lets others find the module, and calls when it has been executed."""

    def __init__(self, name: str, call: Callable[[ModuleType], Any]) -> None:
        self.name = name
        self.call = call

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_call(module: ModuleType) -> None:
                execute(module)
                self.call(module)

            spec.loader.exec_module = execute_and_call
        return spec


def _add_checkpoint_scheme(module: ModuleType) -> None:
    """mmengine loads ``mmlocal://<name>``."""

    def load(filename: str, map_location: Any = None) -> Any:
        from .zoo.releases import load_from_zoo

        return load_from_zoo(filename)

    module.CheckpointLoader.register_scheme('mmlocal://', load, force=True)


def _add_model_index(module: ModuleType) -> None:
    """mmpretrain's get_model, list_models and inferencers know our names."""
    folder = Path(__file__).parents[1] / '.mim'
    module.ModelHub.register_model_index(folder / 'model-index.yml', folder)
