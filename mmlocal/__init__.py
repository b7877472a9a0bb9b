"""Locally supervised training for OpenMMLab.

``import mmlocal`` needs mmengine alone. mmseg and mmpretrain are imported
where a config names their types.
"""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata

from mmengine.config.utils import MODULE2PACKAGE

from .version import __version__

__all__ = ['__version__']

# What makes `_base_ = 'mmlocal::infopro/x.py'` and get_model() find .mim.
MODULE2PACKAGE['mmlocal'] = 'mmlocal'
# The maintained fork of mmseg has a distribution name that mmengine's table
# does not know: `_base_ = 'mmseg::...'` would report a missing package.
with suppress(PackageNotFoundError):
    metadata('onedl-mmsegmentation')
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'
