"""From a training of MMLocal to files that need none of it."""

from .files import Exported, export, export_config, publish_model

__all__ = [
    'Exported',
    'export',
    'export_config',
    'publish_model',
]
