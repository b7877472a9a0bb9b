"""From a config of MMLocal to one of mmseg or mmpretrain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from mmlocal.config import (
    innermost_dataset,
    plain_model,
    type_name,
    wrapper_kind,
)
from mmlocal.models.decode_heads import stock_type

# What belongs together: a Runner takes a group whole or not at all.
TRAINING = (
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'custom_hooks',
)
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')
TESTING = ('test_dataloader', 'test_cfg', 'test_evaluator')
KEPT = (
    'default_scope',
    'model',
    'data_preprocessor',
    *TRAINING,
    *VALIDATION,
    *TESTING,
    'default_hooks',
    'tta_model',
    'tta_pipeline',
    'env_cfg',
    'visualizer',
    'vis_backends',
    'log_processor',
    'log_level',
    'randomness',
    'sync_bn',
    'load_from',
    'resume',
)
LOOPS = {'LocalValLoop': 'ValLoop', 'LocalTestLoop': 'TestLoop'}
DATASETS = {'mmseg': 'BaseSegDataset', 'mmpretrain': 'CustomDataset'}


def plain_config(cfg: Config) -> tuple[Config, list[str]]:
    """The config of the plain model, for libraries without MMLocal.

    Training and validation stay if mmseg or mmpretrain have everything that
    they need; then the config trains end to end. The test pipeline always
    stays, because it belongs to inference. ``pretrained`` weights go: those
    that come with the config have been trained further.

    Args:
        cfg (Config): Of mmseg or mmpretrain, with local training or without.

    Returns:
        tuple[Config, list[str]]: The config, and a line for everything that
        is not as it was.

    Raises:
        ValueError: If the model has a part that only MMLocal has.
    """
    plain = {key: cfg[key] for key in KEPT if key in cfg}
    plain = ConfigDict(Config(plain).to_dict())
    notes = []
    plain.model = plain_model(cfg.model)
    if plain.model != cfg.model:
        notes.append('model: the plain backbone, without local heads')
    model = _with_stock_heads(plain.model)
    if model != plain.model:
        plain.model = model
        notes.append("model: mmseg's decode heads, of the same loss")
    if plain.model.pop('pretrained', None):
        notes.append('model: without pretrained, which comes before training')
    if own := _own_types(plain.model):
        raise ValueError(
            f'{", ".join(own)} is a part of the model that only MMLocal has: '
            'stock mmseg and mmpretrain cannot build it. Export the model '
            'to ONNX instead (tools/export_onnx.py), which needs neither.'
        )
    mapped = _map_training(plain)
    if own := _own_types({key: plain.get(key) for key in TRAINING}):
        _drop(plain, TRAINING, own, notes)
    else:
        notes += mapped
    mapped = _map_evaluation(plain, VALIDATION)
    if own := _own_types({key: plain.get(key) for key in VALIDATION}):
        _drop(plain, VALIDATION, own, notes)
    else:
        notes += mapped
    mapped = _map_evaluation(plain, TESTING)
    _replace_test_data(plain, cfg, notes)
    if 'test_evaluator' in plain:
        notes += mapped
    if plain.get('test_dataloader'):
        # mmseg's inference_model reads it here.
        plain.test_pipeline = innermost_dataset(
            plain.test_dataloader.dataset
        ).pipeline
    plain.load_from, plain.resume = None, False
    return Config(plain), notes


def _with_stock_heads(model: Any) -> Any:
    """mmseg's decode heads for those with an ``ImagewiseLoss``."""
    if isinstance(model, Mapping):
        return ConfigDict(
            {key: _with_stock_heads(value) for key, value in model.items()}
        )
    if isinstance(model, (list, tuple)):
        return type(model)(map(_with_stock_heads, model))
    return stock_type(model)


def _map_training(plain: ConfigDict) -> list[str]:
    """Put mm's own parts where MMLocal's do the same; says which."""
    notes = []
    wrapper = plain.get('optim_wrapper') or {}
    kind = wrapper_kind(wrapper)
    if kind is not None and kind.local:
        new = kind._replace(local=False).name
        notes.append(f'optim_wrapper: {new} for {kind.name}')
        wrapper.type = new
        # Only local training can update module by module.
        wrapper.pop('step', None)
    checkpoint = (plain.get('default_hooks') or {}).get('checkpoint') or {}
    if checkpoint.get('type') == 'mmlocal.LocalCheckpointHook':
        notes.append(f'default_hooks: CheckpointHook for {checkpoint.type}')
        checkpoint.type = 'CheckpointHook'
    hooks = plain.get('custom_hooks') or []
    own = [hook for hook in hooks if _own_types(hook)]
    if own:
        names = ', '.join(_own_types(own))
        notes.append(f'custom_hooks: without {names}')
        plain.custom_hooks = [hook for hook in hooks if hook not in own]
    return notes


def _map_evaluation(plain: ConfigDict, keys: tuple[str, ...]) -> list[str]:
    """Put mm's loop, and leave out metrics of modules; says which."""
    notes = []
    _, loop_key, evaluator_key = keys
    loop = plain.get(loop_key) or {}
    name = type_name(loop.get('type'))
    if name in LOOPS:
        loop.type = LOOPS[name]
        loop.pop('ensemble', None)
        notes.append(f'{loop_key}: {loop.type} for mmlocal.{name}')
    metrics = plain.get(evaluator_key) or []
    if own := _own_types(metrics):
        metrics = metrics if isinstance(metrics, list) else [metrics]
        kept = [metric for metric in metrics if not _own_types(metric)]
        plain[evaluator_key] = kept
        notes.append(f'{evaluator_key}: without {", ".join(own)}')
    return notes


def _replace_test_data(
    plain: ConfigDict, cfg: Config, notes: list[str]
) -> None:
    """Keep the test pipeline, if not the data."""
    loader = plain.get('test_dataloader')
    if not _own_types(loader):
        return
    from ..zoo import dataset_meta

    dataset = innermost_dataset(loader.dataset)
    kind = DATASETS.get(plain.get('default_scope'))
    if kind is None or _own_types(dataset.pipeline):
        raise ValueError(
            f'test_dataloader: {", ".join(_own_types(loader))} exists only '
            'in MMLocal, and the default_scope is neither mmseg nor '
            'mmpretrain; give a config whose test pipeline is of one of them.'
        )
    meta = {
        key: value
        for key, value in dataset_meta(cfg).items()
        if key in ('classes', 'palette')
    }
    notes.append(
        f'test_dataloader.dataset: {kind} for {dataset.type}, with its '
        'pipeline and classes only; to evaluate, add data and an evaluator'
    )
    for key in TESTING[1:]:
        plain.pop(key, None)
    plain.test_dataloader = ConfigDict(
        dataset=dict(
            type=kind, metainfo=meta, pipeline=dataset.pipeline, test_mode=True
        )
    )


def _drop(
    plain: ConfigDict, keys: tuple[str, ...], own: list[str], notes: list[str]
) -> None:
    gone = [key for key in keys if plain.pop(key, None) is not None]
    notes.append(f'without {", ".join(gone)} ({", ".join(own)})')


def _own_types(node: Any) -> list[str]:
    """Every type of MMLocal in a part of a config."""
    return sorted(set(_find_own(node)))


def _find_own(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _find_own(value)
    elif str(node).startswith('mmlocal.'):
        yield str(node)
    elif str(getattr(node, '__module__', '')).startswith('mmlocal.'):
        yield f'mmlocal.{node.__name__}'
