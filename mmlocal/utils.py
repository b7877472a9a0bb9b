"""Small things that belong to no other part."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep one notice of the OneDL forks off the screen.

    mmseg and mmpretrain print 'Could not import OneDL' up to three times
    when they are first imported, whatever the log level. It concerns no one
    here, and would be the first thing a user reads. Everything else that is
    printed meanwhile goes through.

    Example:
        >>> with quiet_imports():
        ...     import mmseg.datasets
    """
    with redirect_stdout(_WithoutNotice(sys.stdout)):
        yield


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register everything that MMLocal has.

    ``mmengine.hub.get_model`` calls this. Configs need no call: their types
    are imported by name.

    Args:
        init_default_scope (bool): As in other libraries of OpenMMLab; a
            config of MMLocal is in the scope of mmseg or mmpretrain, and
            none is set here.
    """
    with quiet_imports():
        for part in (
            'analysis',
            'datasets',
            'engine.hooks',
            'engine.optim',
            'models',
        ):
            import_module(f'mmlocal.{part}')


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
        from mmlocal.apis.releases import load_from_zoo

        return load_from_zoo(filename)

    module.CheckpointLoader.register_scheme('mmlocal://', load, force=True)


def _add_model_index(module: ModuleType) -> None:
    """mmpretrain's get_model, list_models and inferencers know our names."""
    folder = Path(__file__).parent / '.mim'
    module.ModelHub.register_model_index(folder / 'model-index.yml', folder)


class _WithoutNotice:
    """A stream that leaves one line out.

    It writes through at once, so a log handler that is created meanwhile and
    keeps it goes on working.
    """

    NOTICE = 'Could not import OneDL'

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.skip_newline = False

    def write(self, text: str) -> int:
        if text == self.NOTICE:
            self.skip_newline = True
            return len(text)
        # print() writes the line and its end one by one.
        skip = self.skip_newline and text == '\n'
        self.skip_newline = False
        return len(text) if skip else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
