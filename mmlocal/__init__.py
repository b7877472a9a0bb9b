"""Locally supervised training for OpenMMLab.

``import mmlocal`` needs mmengine alone. mmseg and mmpretrain are imported
where a config names their types.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from mmengine.config.utils import MODULE2PACKAGE

from .apis.names import register_names
from .version import __version__

__all__ = [
    '__version__',
    'export',
    'get_config',
    'get_model',
    'list_models',
]

_LAZY = {
    'export': 'mmlocal.apis.export',
    'get_config': 'mmlocal.apis.zoo',
    'get_model': 'mmlocal.apis.zoo',
    'list_models': 'mmlocal.apis.zoo',
}

# What makes `_base_ = 'mmlocal::infopro/x.py'` and get_model() find .mim.
MODULE2PACKAGE['mmlocal'] = 'mmlocal'
# The maintained fork of mmseg has a distribution name that mmengine's table
# does not know: `_base_ = 'mmseg::...'` would report a missing package.
with suppress(PackageNotFoundError):
    metadata('onedl-mmsegmentation')
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'
register_names()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
