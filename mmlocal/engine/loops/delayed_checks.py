"""Settings in which gradients cannot be delayed."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner

from mmlocal.engine.optim import LocalStepMixin
from mmlocal.step import local_backbone


def model_problems(runner: Runner) -> Iterator[str]:
    """What is wrong with the model, or stands around it."""
    loop, model = 'train_cfg.type: delayed gradients', runner.model
    if is_model_wrapper(model) or runner.world_size > 1:
        yield (
            f'{loop} run in one process: write '
            "launcher='none' and start one, or train by local losses "
            "(train_cfg.type='EpochBasedTrainLoop', with local_heads) on "
            'several'
        )
    backbone = local_backbone(model)
    if backbone is None:
        yield (
            f'{loop} train the modules of a cut backbone, and the model has '
            'none: write model.backbone=dict('
            "type='mmlocal.LocalSupervisedBackbone', backbone=..., "
            'boundaries=..., local_heads=[])'
        )
    elif backbone.module_heads:
        yield (
            f'{loop} take the place of local losses, and the local heads '
            'would never be trained: write model.backbone.local_heads=[] '
            '(and remove local_end)'
        )
    if type(model).train_step is not BaseModel.train_step:
        yield (
            f'{loop} run single modules in place of train_step, which '
            f'{type(model).__name__} has its own of: take a model with that '
            'of mmengine, as ImageClassifier and EncoderDecoder have'
        )
    if runner.cfg.get('compile'):
        yield (
            f'compile turns train_step into one graph, and {loop} do not '
            'call it: write compile_cfg of the backbone, which compiles '
            'submodules'
        )


def optimizer_problems(runner: Runner) -> Iterator[str]:
    """What is wrong with the optimizer wrapper, once it is built."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, LocalStepMixin):
        yield (
            f'optim_wrapper.type is {type(wrapper).__name__}: modules are '
            "trained under a local one: write dict(type='mmlocal."
            "LocalOptimWrapper', ...) or 'mmlocal.LocalAmpOptimWrapper'"
        )
    elif wrapper._accumulative_counts > 1:
        yield (
            'optim_wrapper.accumulative_counts would add up gradients of '
            'batches that are older in one module than in another, and were '
            'made with different weights: remove it, and raise '
            'train_dataloader.batch_size'
        )
    elif getattr(wrapper, '_by_module', False):
        yield (
            "optim_wrapper.step='module' frees the gradients of a module "
            'before the next one runs, which delayed gradients do not do: '
            'remove step'
        )
