"""What a config says of local training.

A type may be a name with scope (``mmlocal.X``) or without, or a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

from mmengine.config import ConfigDict
from mmengine.registry import Registry

from .config_check import check_config
from .registry import PARTITIONS

LOCAL_BACKBONE = 'mmlocal.LocalSupervisedBackbone'
# What is read of a config's top level, beside the arguments of Runner.
EXTRA_KEYS = (
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
)


class WrapperKind(NamedTuple):
    """Which of the four optimizer wrappers.

    Twins differ in one field, as ``kind._replace(amp=True)``.

    Attributes:
        local (bool): MMLocal's, for local training, or mmengine's.
        amp (bool): Mixed precision.
    """

    local: bool
    amp: bool

    @property
    def name(self) -> str:
        """The type to write into a config."""
        scope = 'mmlocal.Local' if self.local else ''
        return f'{scope}{"Amp" if self.amp else ""}OptimWrapper'


WRAPPER_KINDS = [WrapperKind(*two) for two in product((False, True), repeat=2)]


def type_name(kind: Any) -> str:
    """The bare name of a type."""
    return getattr(kind, '__name__', None) or str(kind).rpartition('.')[2]


def find_type(kind: Any, registry: Registry) -> Any:
    """The class of a type; None if nothing of that name is registered."""
    return registry.get(kind) if isinstance(kind, str) else kind


def wrapper_kind(optim_wrapper: Mapping[str, Any]) -> WrapperKind | None:
    """Which optimizer wrapper a config has; None if it is another one."""
    name = type_name(optim_wrapper.get('type') or 'OptimWrapper')
    known = {type_name(kind.name): kind for kind in WRAPPER_KINDS}
    return known.get(name)


def is_wrapped(backbone: Mapping[str, Any]) -> bool:
    """Whether a backbone's config is a ``LocalSupervisedBackbone``."""
    return type_name(backbone.get('type')) == type_name(LOCAL_BACKBONE)


def schedule_of(cfg: Mapping[str, Any]) -> str:
    """Which modules of a config train at a time.

    Returns:
        str: 'together', 'one at a time', 'one at a time, cached', or the
        name of the loop if it is another one of MMLocal's.
    """
    train_cfg = cfg.get('train_cfg') or {}
    loop = type_name(train_cfg.get('type') or '')
    if loop in ('SequentialTrainLoop', 'SequentialIterTrainLoop'):
        cached = train_cfg.get('cache') is not None
        return 'one at a time' + ', cached' * cached
    if loop in (
        'ReplayTrainLoop',
        'DelayedGradientTrainLoop',
        'DelayedGradientIterTrainLoop',
    ):
        return loop
    return 'together'


def has_hook(hooks: Iterable[Mapping[str, Any]] | None, name: str) -> bool:
    """Whether a hook is among ``custom_hooks``."""
    return any(type_name(hook['type']) == name for hook in hooks or ())


def innermost_dataset(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set below wrappers such as RepeatDataset."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def trained_model(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model below a wrapper for test-time augmentation."""
    return model.get('module', model)


def planned_backbone(model: Mapping[str, Any]) -> Any:
    """The config of a model's backbone, if its split is left to a plan.

    Returns:
        dict | None: With a config of a partition as its ``boundaries``.
    """
    backbone = trained_model(model).get('backbone') or {}
    planned = is_wrapped(backbone) and is_planned(backbone.get('boundaries'))
    return backbone if planned else None


def is_planned(boundaries: Any) -> bool:
    """Whether boundaries are of a partition that needs the whole config."""
    if not isinstance(boundaries, Mapping):
        return False
    kind = find_type(boundaries.get('type'), PARTITIONS)
    return getattr(kind, 'needs_config', False)


def build_partition(boundaries: Mapping[str, Any]) -> Callable:
    """Build the partition of a config.

    Args:
        boundaries (Mapping): With its ``type``.

    Raises:
        ValueError: If there is no such partition.
    """
    options = dict(boundaries)
    kind = options.pop('type', None)
    partition = find_type(kind, PARTITIONS)
    if partition is None:
        raise ValueError(
            f'model.backbone.boundaries: there is no partition {kind!r}; '
            f'there are {sorted(PARTITIONS.module_dict)}.'
        )
    check_config({**options, 'type': partition}, 'model.backbone.boundaries')
    return partition(**options)


def plain_model(model: Mapping[str, Any]) -> ConfigDict:
    """The model without local training.

    Args:
        model (Mapping): Config of a model.

    Returns:
        ConfigDict: The same, with every ``LocalSupervisedBackbone`` replaced
        by the backbone in it.
    """
    if is_wrapped(model):
        model = model['backbone']
    return ConfigDict(
        {
            key: plain_model(value) if isinstance(value, Mapping) else value
            for key, value in model.items()
        }
    )
