"""Logs local losses; refuses settings that break local training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmlocal.engine.distributed import ModuleParallel
from mmlocal.engine.distributed.stage_checks import run_problems
from mmlocal.engine.optim import LocalStepMixin
from mmlocal.registry import HOOKS
from mmlocal.safe_load import load_safely_in_mmengine
from mmlocal.step import LocalBackbone, local_backbone, local_backbones, unwrap

from .finite import FiniteLosses, losses_by_module
from .fit import (
    check_boundaries,
    check_fit,
    check_optimizer,
    record_boundaries,
)
from .global_batch import record_global_batch, warn_of_other_batch
from .local_checkpoint_hook import LocalCheckpointHook
from .statistics import average_over_ranks, saves_after


@HOOKS.register_module()
class LocalLossHook(Hook):
    """Puts every local loss and metric in the log, as ``local_0.loss_task``.

    All values of an iteration reach the host in one transfer. In a model with
    several cut backbones the name of each comes before, as
    ``backbone.local_0.loss_task``. Before training it refuses settings with
    which the modules would train end to end, not at all, or differently on
    each rank. When a run is resumed with another global batch, as on fewer
    ranks, it says so; with other modules or parameters it refuses to. On
    several ranks, the running statistics of BatchNorm are averaged before
    validation, before CheckpointHook saves, and after each epoch: each rank
    has gathered those of its own images.

    Args:
        max_nonfinite (int): Iterations in a row in which a loss of one
            module, local or the last, is NaN or infinite, after which the
            training ends; 0 for never. Defaults to 10.

    Raises:
        ValueError: In ``before_train``, if the optimizer wrapper is not a
            local one, or on default DDP, ``static_graph``,
            ``detect_anomalous_params``, FSDP1, DeepSpeed, or mmengine's
            ``activation_checkpointing`` around a boundary; when a checkpoint
            is loaded, if it fits neither model nor modules nor optimizer.
        RuntimeError: After too many losses that are no numbers.
    """

    # Before RuntimeInfoHook's values are printed by LoggerHook, and before
    # EMAHook puts its average in the place of the model.
    priority = 'ABOVE_NORMAL'

    def __init__(self, max_nonfinite: int = 10) -> None:
        self._finite = FiniteLosses(max_nonfinite)
        self._backbones: dict[str, LocalBackbone] = {}

    def before_run(self, runner: Runner) -> None:
        load_safely_in_mmengine()

    def before_train(self, runner: Runner) -> None:
        for problem in _problems(runner):
            raise ValueError(problem)
        self._backbones = local_backbones(unwrap(runner.model))
        for index in frozen_modules(unwrap(runner.model)):
            runner.logger.warning(
                f'module {index + 1} has no weights to train: its local head '
                'learns alone. Cut behind the frozen stages '
                '(model.backbone.boundaries), or freeze fewer '
                '(model.backbone.backbone.frozen_stages).'
            )

    def after_train(self, runner: Runner) -> None:
        if isinstance(runner.model, ModuleParallel):
            # What is on its way does not come once its sender has ended.
            barrier()

    def after_train_epoch(self, runner: Runner) -> None:
        average_over_ranks(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        average_over_ranks(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        record_global_batch(runner, checkpoint)
        backbone = local_backbone(unwrap(runner.model))
        record_boundaries(backbone, checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            backbone = local_backbone(unwrap(runner.model))
            check_boundaries(backbone, checkpoint)
            check_optimizer(runner, checkpoint)
            warn_of_other_batch(runner, checkpoint)
        others = (isinstance(h, LocalCheckpointHook) for h in runner.hooks)
        if not any(others):  # which does it
            check_fit(runner, checkpoint)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        if saves_after(runner):
            average_over_ranks(runner)
        log = runner.optim_wrapper.step_log
        tensors = dict(log)
        if isinstance(loss := (outputs or {}).get('loss'), Tensor):
            tensors['loss'] = loss.detach()
        if not tensors:
            return
        numbers = torch.stack([v.float() for v in tensors.values()]).tolist()
        values = dict(zip(tensors, numbers, strict=True))
        for key in log:
            runner.message_hub.update_scalar(f'train/{key}', values[key])
        losses = losses_by_module(values, self._backbones)
        self._finite.check(runner.iter + 1, losses)


def frozen_modules(model: nn.Module) -> list[int]:
    """Modules with a local head and nothing else to train."""
    backbone = local_backbone(model)
    if backbone is None:
        return []
    return [
        index
        for index, head in backbone.module_heads.items()
        if not any(
            weight.requires_grad
            for weight in {*backbone.module_weights(index)}
            - {*head.parameters()}
        )
    ]


def _problems(runner: Runner) -> Iterator[str]:
    yield from _wrapper_problems(runner.model)
    if isinstance(runner.model, ModuleParallel):
        yield from run_problems(runner)
    if not isinstance(runner.optim_wrapper, LocalStepMixin):
        name = type(runner.optim_wrapper).__name__
        local = name if name.startswith('Amp') else 'OptimWrapper'
        yield (
            f'optim_wrapper.type is {name}: the network would train end to '
            'end and never touch the local heads. Write '
            f"optim_wrapper=dict(type='mmlocal.Local{local}', ...)."
        )
    yield from _checkpointing_problems(runner)
    yield from _class_problems(unwrap(runner.model))


def _wrapper_problems(model: nn.Module) -> Iterator[str]:
    name, local = type(model).__name__, 'LocalDistributedDataParallel'
    reason = {
        'FullySharded': (
            'gathers the parameters for one forward and then one backward, '
            'while local modules run their backward inside of the forward',
            'shards them module by module',
        ),
        'DeepSpeed': (
            'runs one backward and one step itself, without optim_context, '
            'in which local modules are trained',
            'shards weights, gradients and optimizer state',
        ),
    }
    for part, (why, what) in reason.items():
        if part in name:
            yield (
                f'model_wrapper_cfg or strategy: {name} {why}. Remove it and '
                f"write model_wrapper_cfg=dict(type='mmlocal.LocalFSDP'), "
                f"which {what}, or 'mmlocal.{local}', which keeps all of them "
                'on each GPU.'
            )
    if not isinstance(model, DistributedDataParallel):
        return
    instead = f"write model_wrapper_cfg=dict(type='mmlocal.{local}')"
    if model.static_graph:
        yield (
            'model_wrapper_cfg.static_graph=True drops the gradients of '
            f'local modules from the second step on: {instead}, or remove '
            'it and set find_unused_parameters=True.'
        )
    if not model.find_unused_parameters:
        yield (
            'DDP without find_unused_parameters steps with unsynchronized '
            f'gradients of local modules: {instead}, or, slower, '
            'find_unused_parameters=True.'
        )
    if getattr(model, 'detect_anomalous_params', False):
        yield (
            'model_wrapper_cfg.detect_anomalous_params=True takes every '
            'parameter that trains locally for an anomaly: remove it.'
        )


def _checkpointing_problems(runner: Runner) -> Iterator[str]:
    modules = runner.cfg.get('activation_checkpointing')
    if modules is None:
        return
    backbone = local_backbone(unwrap(runner.model))
    if backbone is None:
        return
    cut = {*backbone.boundary_modules.values()}
    for name in [modules] if isinstance(modules, str) else modules:
        module = unwrap(runner.model)
        for part in name.split('.'):
            module = getattr(module, part)
        if cut & set(module.modules()):
            yield (
                f'activation_checkpointing={name!r} wraps a boundary in '
                "mmengine's reentrant checkpoint, where modules get no "
                'gradient: use `checkpointing` of the backbone, or name '
                'blocks behind a boundary.'
            )


def _class_problems(model: nn.Module) -> Iterator[str]:
    head = getattr(model, 'decode_head', getattr(model, 'head', None))
    expected = getattr(head, 'num_classes', None)
    if expected is None:
        return
    places = [
        (backbone, index, local)
        for backbone in local_backbones(model).values()
        for index, local in backbone.module_heads.items()
    ]
    for backbone, index, local in places:
        for module in local.modules():
            found = getattr(module, 'num_classes', None)
            if found is not None and found != expected:
                yield (
                    f'local_heads.num_classes is {found} in module '
                    f'{index + 1} of {backbone.num_modules}, '
                    f"but the model's own head has {expected}: write "
                    f'num_classes={expected}.'
                )
