"""Questions to configs."""

from __future__ import annotations

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS

from mmlocal import config
from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.backbones import LocalSupervisedBackbone
from mmlocal.partition import EqualDepth, MemoryBalanced, MemoryBudget

CLASSES = [
    OptimWrapper,
    AmpOptimWrapper,
    LocalOptimWrapper,
    LocalAmpOptimWrapper,
]


@pytest.mark.parametrize('cls', CLASSES)
def test_optimizer_wrappers(cls):
    """By class, by name, and with scope; the name leads to the class."""
    kind = config.wrapper_kind({'type': cls})
    assert kind.local == issubclass(cls, (LocalOptimWrapper, CLASSES[3]))
    assert kind.amp == issubclass(cls, AmpOptimWrapper)
    assert MMENGINE_OPTIM_WRAPPERS.get(kind.name) is cls
    for name in (cls.__name__, f'{cls.__module__}.{cls.__name__}', kind.name):
        assert config.wrapper_kind({'type': name}) == kind


def test_twins_of_optimizer_wrappers():
    plain = config.wrapper_kind({})
    assert plain.name == 'OptimWrapper'
    twin = plain._replace(local=True)
    assert twin.name == 'mmlocal.LocalOptimWrapper'
    assert twin._replace(amp=True).name == 'mmlocal.LocalAmpOptimWrapper'
    for other in ('ApexOptimWrapper', 'mmlocal.MyLocalOptimWrapper'):
        assert config.wrapper_kind({'type': other}) is None


@pytest.mark.parametrize(
    'kind',
    [
        'LocalSupervisedBackbone',
        'mmlocal.LocalSupervisedBackbone',
        LocalSupervisedBackbone,
    ],
)
def test_backbones(kind):
    assert config.is_wrapped({'type': kind})
    backbone = {'type': kind, 'boundaries': {'type': MemoryBalanced}}
    for model in ({'backbone': backbone}, {'module': {'backbone': backbone}}):
        assert config.planned_backbone(model) is backbone
    backbone['boundaries'] = ['layer2']
    assert config.planned_backbone({'backbone': backbone}) is None
    plain = {'type': 'ResNet', 'boundaries': {'type': MemoryBalanced}}
    assert config.planned_backbone({'backbone': plain}) is None
    assert config.planned_backbone({'type': 'NoBackbone'}) is None


def test_which_splits_are_planned():
    for kind in (MemoryBalanced, MemoryBudget):
        for name in (kind, kind.__name__, f'mmlocal.{kind.__name__}'):
            assert config.is_planned(ConfigDict(type=name))
    for kind in (EqualDepth, 'mmlocal.PublishedSplit', 'Memory', None):
        assert not config.is_planned({'type': kind})
    for boundaries in ((), 'layer2', ['layer2'], None, {}):
        assert not config.is_planned(boundaries)


@pytest.mark.parametrize('kind', ['EqualDepth', EqualDepth])
def test_partitions_are_built(kind):
    partition = config.build_partition({'type': kind, 'num_modules': 3})
    assert isinstance(partition, EqualDepth)
    assert partition.num_modules == 3


def test_partitions_that_are_none():
    for boundaries in ({'type': 'Equal'}, {'num_modules': 2}):
        with pytest.raises(ValueError, match='there are .*EqualDepth'):
            config.build_partition(boundaries)


def test_hooks():
    for kind in ('EMAHook', 'mmpretrain.EMAHook', EMAHook):
        assert config.has_hook([{'type': 'X'}, {'type': kind}], 'EMAHook')
    assert not config.has_hook([{'type': 'NoEMAHook'}], 'EMAHook')
    assert not config.has_hook(None, 'EMAHook')


def test_types_are_found():
    name = 'MMDistributedDataParallel'
    for kind in (name, f'mmengine.{name}', MMDistributedDataParallel):
        found = config.find_type(kind, MODEL_WRAPPERS)
        assert found is MMDistributedDataParallel
    assert config.find_type(None, MODEL_WRAPPERS) is None


def test_configs_of_pure_python(tmp_path):
    """There, types are imports that are made when they are asked for."""
    path = tmp_path / 'lazy.py'
    path.write_text(
        'from mmengine.hooks import EMAHook\n'
        'from mmlocal.engine.optim import LocalAmpOptimWrapper\n'
        'from mmlocal.models.backbones import LocalSupervisedBackbone\n'
        'from mmlocal.partition import MemoryBudget\n'
        'split = dict(type=MemoryBudget, budget=0.5)\n'
        'model = dict(backbone=dict(\n'
        '    type=LocalSupervisedBackbone, boundaries=split))\n'
        'optim_wrapper = dict(type=LocalAmpOptimWrapper)\n'
        'custom_hooks = [dict(type=EMAHook)]\n'
    )
    cfg = Config.fromfile(path, lazy_import=True)
    assert config.planned_backbone(cfg.model) is cfg.model.backbone
    assert config.wrapper_kind(cfg.optim_wrapper) == (True, True)
    assert config.has_hook(cfg.custom_hooks, 'EMAHook')
    # Those of a plain copy, too.
    hooks = [dict(hook) for hook in cfg.custom_hooks]
    assert config.has_hook(hooks, 'EMAHook')
