"""Importing the mm libraries, and what mmengine asks a library for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
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
