"""Two small runs, and the functions of pages.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope='session')
def pages() -> ModuleType:
    """The functions of pages.py, for tests."""
    path = Path(__file__).with_name('pages.py')
    spec = importlib.util.spec_from_file_location('pages', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def local(pages, tmp_path) -> Path:
    path = tmp_path / 'dgl_k3'
    pages.write_part(path, pages.local_lines())
    (path / 'dgl_shapes.py').write_text('')
    return path


@pytest.fixture
def plain(pages, tmp_path) -> Path:
    path = tmp_path / 'e2e'
    no_cuts = pages.text_log().replace('boundaries', 'nothing')
    pages.write_part(
        path,
        pages.plain_lines(),
        cfg=pages.config(pages.PLAIN_BACKBONE),
        log=no_cuts,
    )
    return path
