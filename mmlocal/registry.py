"""Registries of MMLocal, children of mmengine's.

``type='mmlocal.X'`` in a config imports this module and, through
``locations``, the package that defines ``X``: no ``custom_imports`` needed.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

from mmlocal.utils import quiet_imports

# What extends mmpretrain, below mmlocal.models.
MMPRETRAIN_PARTS = ('backbones.layerwise_resnet', 'classifiers', 'heads')


class _Models(Registry):
    """Has also what stems from mmseg and mmpretrain.

    mmpretrain takes its time, and trainings of mmseg need none of it: what
    extends it is imported when such a type is asked for. Decode heads of
    mmseg are made for the names ``Imagewise...``.
    """

    def get(self, key: str) -> Any:
        found = super().get(key)
        if found is None:
            heads = import_module('mmlocal.models.decode_heads')
            found = heads.imagewise_head(key.removeprefix('mmlocal.'))
        if found is None and find_spec('mmpretrain'):
            with quiet_imports():
                for part in MMPRETRAIN_PARTS:
                    import_module(f'mmlocal.models.{part}')
            found = super().get(key)
        return found


MODELS = _Models(
    'model',
    parent=MMENGINE_MODELS,
    locations=['mmlocal.models'],
    scope='mmlocal',
)
MODEL_WRAPPERS = Registry(
    'model_wrapper',
    parent=MMENGINE_MODEL_WRAPPERS,
    locations=['mmlocal.engine.distributed'],
    scope='mmlocal',
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    locations=['mmlocal.engine.hooks', 'mmlocal.analysis'],
    scope='mmlocal',
)
LOOPS = Registry(
    'loop',
    parent=MMENGINE_LOOPS,
    locations=['mmlocal.engine.loops'],
    scope='mmlocal',
)
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    locations=['mmlocal.evaluation'],
    scope='mmlocal',
)
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    locations=['mmlocal.engine.optim'],
    scope='mmlocal',
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    locations=['mmlocal.engine.optim'],
    scope='mmlocal',
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler',
    parent=MMENGINE_PARAM_SCHEDULERS,
    locations=['mmlocal.engine.schedulers'],
    scope='mmlocal',
)
RUNNERS = Registry(
    'runner',
    parent=MMENGINE_RUNNERS,
    locations=['mmlocal.engine.runner'],
    scope='mmlocal',
)
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    locations=['mmlocal.datasets'],
    scope='mmlocal',
)
# Where to cut a backbone: ``boundaries=dict(type='EqualDepth', ...)``.
PARTITIONS = Registry(
    'partition', locations=['mmlocal.partition'], scope='mmlocal'
)
# What is measured of modules: ``measures=[dict(type='LinearProbe')]``.
MEASURES = Registry('measure', locations=['mmlocal.analysis'], scope='mmlocal')


class _OverMMSeg(Registry):
    """What mmseg has, under the scope of MMLocal.

    ``MMSegInferencer(NAME, scope='mmlocal')`` looks for names of models in
    the package of that scope, and for transforms and visualizers too.
    """

    def __init__(self, kind: str, name: str, parent: Registry) -> None:
        super().__init__(name, parent=parent, scope='mmlocal')
        self.kind = kind

    def get(self, key: str) -> Any:
        if find_spec('mmseg') is None:
            return super().get(key)
        registry = getattr(import_module('mmseg.registry'), self.kind)
        return registry.get(key) or super().get(key)


TRANSFORMS = _OverMMSeg('TRANSFORMS', 'transform', MMENGINE_TRANSFORMS)
VISUALIZERS = _OverMMSeg('VISUALIZERS', 'visualizer', MMENGINE_VISUALIZERS)
VISBACKENDS = _OverMMSeg('VISBACKENDS', 'vis_backend', MMENGINE_VISBACKENDS)
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS, scope='mmlocal')
