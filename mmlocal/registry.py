"""Registries of MMLocal, children of mmengine's.

``type='mmlocal.X'`` in a config imports this module and, through
``locations``, the package that defines ``X``: no ``custom_imports`` needed.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import Registry

MODELS = Registry(
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
    locations=['mmlocal.engine.hooks'],
    scope='mmlocal',
)
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    locations=['mmlocal.engine.optim'],
    scope='mmlocal',
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler',
    parent=MMENGINE_PARAM_SCHEDULERS,
    locations=['mmlocal.engine.schedulers'],
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
