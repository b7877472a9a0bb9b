"""What loops that train single modules have to refuse alike."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmlocal.engine.optim import LocalStepMixin
from mmlocal.step import local_backbones, unwrap


def uncut_model(model: nn.Module, loop: str, heads: str) -> Iterator[str]:
    """A model without modules, or with those of several backbones.

    Args:
        model (nn.Module): What is to be trained.
        loop (str): The setting that asks for it.
        heads (str): What to write for ``local_heads``.
    """
    backbones = local_backbones(unwrap(model))
    if len(backbones) > 1:
        yield (
            f'{loop} trains the modules of one backbone, and the model has '
            f'several that are cut, {", ".join(backbones)}: cut one of them, '
            'or train all modules at once'
        )
    if not backbones:
        yield (
            f'{loop} trains the modules of a cut backbone, and the model has '
            "none: write model.backbone=dict(type='mmlocal."
            "LocalSupervisedBackbone', backbone=..., boundaries=..., "
            f'local_heads={heads})'
        )


def own_step(runner: Runner, loop: str) -> Iterator[str]:
    """A step of its own, or compiled, in place of which modules run."""
    model = runner.model
    if type(model).train_step is not BaseModel.train_step:
        yield (
            f'{loop} runs single modules from their inputs, in place of '
            f'train_step, which {type(model).__name__} has its own of: take '
            'a model with that of mmengine, as ImageClassifier and '
            'EncoderDecoder have'
        )
    if runner.cfg.get('compile'):
        yield (
            f'compile turns train_step into one graph, and {loop} does not '
            'call it: write compile_cfg of the backbone, which compiles '
            'submodules'
        )


def plain_wrapper(wrapper: OptimWrapper) -> Iterator[str]:
    """An optimizer wrapper under which no module trains alone."""
    if not isinstance(wrapper, LocalStepMixin):
        name = type(wrapper).__name__
        local = name if name.startswith('Amp') else 'OptimWrapper'
        yield (
            f'optim_wrapper.type is {name}, which cannot train a module '
            f"alone: write type='mmlocal.Local{local}'"
        )
