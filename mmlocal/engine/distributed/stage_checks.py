"""What cannot be trained by ranks that have a module each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn

from mmlocal.step import LocalBackbone, local_backbone, local_backbones

INSTEAD = "model_wrapper_cfg=dict(type='mmlocal.LocalDistributedDataParallel')"
WHOLE_MODEL_HOOKS = (
    'ClassPrototypeHook',
    'CTCStageHook',
    'EMAHook',
    'ModuleMeasureHook',
)
TRAIN_LOOPS = (EpochBasedTrainLoop, IterBasedTrainLoop)


def checked_backbone(model: nn.Module) -> LocalBackbone:
    """The cut backbone of a model.

    Raises:
        ValueError: If there is none, it is no chain, or a local head needs
            more than its own module; or the model has a step of its own.
    """
    backbone = local_backbone(model)
    if backbone is None:
        raise ValueError(
            'model_wrapper_cfg: ModuleParallel distributes the modules of '
            "a cut backbone: write model.backbone=dict(type='mmlocal."
            "LocalSupervisedBackbone', ...)."
        )
    for problem in _model_problems(model, backbone):
        raise ValueError(f'{problem}, or write {INSTEAD}.')
    backbone.check_chain()
    return backbone


def _model_problems(
    model: nn.Module, backbone: LocalBackbone
) -> Iterator[str]:
    if len(local_backbones(model)) > 1:
        yield (
            f'model: {type(model).__name__} has several cut backbones, and '
            'ModuleParallel distributes the modules of one: cut one alone'
        )
    if isinstance(model, BaseTTAModel):
        yield (
            'tta_model: test-time augmentation runs the network several times '
            'an image, and under ModuleParallel a batch goes through once: '
            'test in one process'
        )
    if type(model).train_step is not BaseModel.train_step:
        yield (
            'model_wrapper_cfg: ModuleParallel runs modules on several '
            f'ranks, in place of train_step, which {type(model).__name__} has '
            'its own of: take a model with that of mmengine'
        )
    if not backbone.module_heads:
        yield (
            'model.backbone.local_heads=[]: under ModuleParallel each module '
            'is trained by a loss of its own, and no gradient comes from '
            "others: write a local head, as dict(type='mmlocal.GreedyHead', "
            'num_classes=10)'
        )
    for head in backbone.module_heads.values():
        name = type(head).__name__
        if head.needs_gradient:
            yield (
                f'local_heads: {name} needs the gradient of the module behind '
                'its own, and under ModuleParallel nothing comes back: choose '
                'another head'
            )
        if head.needs_store:
            yield (
                f'local_heads: {name} needs what the heads of the modules '
                'before have found out, and under ModuleParallel these are on '
                'other ranks: choose another head'
            )


def run_problems(runner: Runner) -> Iterator[str]:
    """What stands around a model whose ranks have a part of it."""
    who = 'ModuleParallel'
    if type(runner.train_loop) not in TRAIN_LOOPS:
        name = type(runner.train_loop).__name__
        yield (
            f'train_cfg.type is {name}, which runs modules in an order of its '
            f'own, and under {who} all train at once: write '
            "'EpochBasedTrainLoop' or 'IterBasedTrainLoop', or remove "
            'model_wrapper_cfg.'
        )
    for hook in runner.hooks:
        name = type(hook).__name__
        if name in WHOLE_MODEL_HOOKS:
            yield (
                f'custom_hooks: {name} looks at all modules, of which a rank '
                f'has a part under {who}: remove it, or write {INSTEAD}.'
            )
        if isinstance(hook, CheckpointHook) and not hasattr(hook, 'gathers'):
            yield (
                f'default_hooks.checkpoint is {name}, with which rank 0 saves '
                f'what it has, and under {who} that is a part: write '
                "checkpoint=dict(type='mmlocal.LocalCheckpointHook', ...)."
            )
    yield from _validation_problems(runner)


def _validation_problems(runner: Runner) -> Iterator[str]:
    loop = runner._val_loop
    if loop is None:
        return
    if _mode(runner.model.module) == 'slide':
        yield (
            "model.test_cfg.mode='slide' runs the network several times an "
            'image, and under ModuleParallel a batch goes through once: write '
            "mode='whole'."
        )
    if getattr(loop.dataloader.sampler, 'round_up', True) is False:
        yield (
            'val_dataloader.sampler.round_up=False lets some ranks have fewer '
            'batches, and under ModuleParallel all run each: remove it.'
        )


def _mode(model: Any) -> str | None:
    return (getattr(model, 'test_cfg', None) or {}).get('mode')
