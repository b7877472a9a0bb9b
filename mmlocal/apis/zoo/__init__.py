"""Models by name: configs, weights and where they come from."""

from .models import (
    FOLDER,
    build_model,
    dataset_meta,
    get_config,
    get_model,
    list_models,
    model_index,
)

__all__ = [
    'FOLDER',
    'build_model',
    'dataset_meta',
    'get_config',
    'get_model',
    'list_models',
    'model_index',
]
