"""Ranks that train one module each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmlocal.engine.optim import LocalStepMixin
from mmlocal.registry import MODEL_WRAPPERS

from .pipeline import Pipeline, Share
from .reducer import GradientReducer
from .stage_checks import checked_backbone
from .stage_forward import StageForward
from .stage_weights import StageWeights
from .stages import Stages, sizes_of
from .weights import average_statistics, broadcast, check_same_parameters

# Of the local heads, and of the model's own.
Log = tuple[dict[str, Tensor], dict[str, Tensor]]
NOTHING: Log = ({}, {})


@MODEL_WRAPPERS.register_module()
class ModuleParallel(nn.Module):
    """Gives each rank some of the modules, and passes features on.

    A stage is one module, or several that follow one another. Ranks are a
    mesh of stages x replicas: those of one replica are a pipeline, those of
    one stage average their gradients. A rank has weights, gradients and
    states of the optimizer of its stage alone. Features go forward, point to
    point, as soon as they are computed; nothing comes back, so that no rank
    waits for the backward of another.

    The batch of each rank is a share of the global batch, as in data
    parallel training, with the same loaders, samplers and learning rate: the
    shares of a pipeline go through its stages one after another, and all
    weights are updated once they have. That is what one process does with
    these shares accumulated.

    With ``clip_grad`` and in mixed precision stages agree on each step, so
    that all wait for the last one; with ``delay=1`` they need not.

    Args:
        module (nn.Module): The model. Its backbone is a chain. Weights and
            buffers become those of rank 0.
        stages (int | Sequence[int], optional): How many there are, or how
            many modules each has, as [2, 1, 1]. A number needs a
            :class:`LocalRunner`, which balances their FLOPs. Defaults to
            None: as many as modules, or as ranks, if there are fewer.
        delay (int): 1: each stage trains on what the one before it has
            computed in the step before, with weights that are a step old.
            Defaults to 0: on what it computes in this one.
        queue (int): Features that may be on their way to the next stage.
            Defaults to 2.
        bucket_cap_mb (float): As of :class:`LocalDistributedDataParallel`,
            between the ranks of a stage. Defaults to 25.
        compression (str, optional): Likewise. Defaults to None.
        timeout (float, optional): Seconds after which a rank no longer waits
            for another one. Defaults to None, that of torch.

    Raises:
        RuntimeError: If there is no process group, or the ranks' models have
            different parameters.
        ValueError: If ranks, modules and stages do not fit, the backbone is
            no chain, or a local head needs more than its own module.

    Example:
        >>> model_wrapper_cfg = dict(type='mmlocal.ModuleParallel')
    """

    def __init__(
        self,
        module: nn.Module,
        stages: int | Sequence[int] | None = None,
        delay: int = 0,
        queue: int = 2,
        bucket_cap_mb: float = 25.0,
        compression: str | None = None,
        timeout: float | None = None,
    ):
        super().__init__()
        if not dist.is_initialized():
            raise RuntimeError(
                'ModuleParallel is for several processes: start them with '
                'tools/dist_train.sh, or with one leave it out.'
            )
        if delay not in (0, 1):
            raise ValueError(f'model_wrapper_cfg.delay={delay}: write 0 or 1.')
        if queue < 1:
            raise ValueError(
                f'model_wrapper_cfg.queue={queue}: write a number from 1 on.'
            )
        backbone = checked_backbone(module)
        ranks = dist.get_world_size()
        sizes = sizes_of(stages, backbone.num_modules, ranks)
        if sizes is None:
            raise ValueError(
                'model_wrapper_cfg.stages: which modules go together is '
                'balanced by their FLOPs, for which the whole config is '
                'needed: train with tools/train.py, write '
                "runner_type='mmlocal.LocalRunner', or the number of modules "
                f'of each stage (there are {backbone.num_modules} in all).'
            )
        check_same_parameters(module)
        broadcast([*module.parameters(), *module.buffers()])
        self.module = module
        self.delay = delay
        self.gradient_reducer: GradientReducer | None = None
        self.stages = Stages(sizes, torch.device(get_device()), timeout)
        self._weights = StageWeights(module, backbone, self.stages)
        self._pipeline = Pipeline(self.stages, queue)
        self._forward = StageForward(
            module, backbone, self.stages, self._pipeline.pass_on
        )
        self._options = bucket_cap_mb, compression
        self._settled, self._require_sync = False, True
        self._optim_wrapper: LocalStepMixin | None = None
        self._log, self._others = NOTHING, []
        self._held: list[Share] = []

    @property
    def bytes_sent(self) -> int:
        """What this rank has sent to other stages."""
        return self._pipeline.sent

    def forward(self, *args, **kwargs) -> Any:
        """There is none: a rank has a part of the model alone."""
        raise RuntimeError(
            'a model under ModuleParallel runs in train_step, val_step and '
            'test_step, on all ranks at once: no rank has all of it.'
        )

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate; see :class:`LocalDistributedDataParallel`."""
        before, self._require_sync = self._require_sync, False
        try:
            yield
        finally:
            self._require_sync = before

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """One training iteration: all shares, through this stage.

        Args:
            data (dict | tuple | list): This rank's share, from the loader.
            optim_wrapper (OptimWrapper): A local one.

        Returns:
            dict[str, Tensor]: The model's own losses, and what else it
            reports, averaged over the shares; on the first stage those of
            the step before, which the last stage has sent.

        Raises:
            ValueError: If the optimizer wrapper is no local one.
        """
        self._settle_optimizer(optim_wrapper)
        self._pipeline.bring((data, self._log))
        trained: list[Log] = []
        held, self._held = self._held, []
        waits = self.delay and self.stages.index
        for number in range(self.stages.count):
            if waits:
                share = held[number] if held else None
            else:
                share = self._take(number)
            if share is not None:
                ends = number == self.stages.count - 1
                trained.append(self._train(share, optim_wrapper, ends))
            if waits:
                self._held.append(self._take(number))
        optim_wrapper.finish()
        self._log = _mean(trained)
        local, own = self._log
        for others in self._others:
            local, own = {**local, **others[0]}, {**own, **others[1]}
        self._others = []
        optim_wrapper.step_log = local
        return own

    def val_step(self, data: dict | tuple | list) -> list:
        """The model's predictions for this rank's batch.

        All ranks call this equally often: the batch goes through all stages.
        """
        self._settle()
        self._pipeline.bring((data, NOTHING))
        mine = None
        for number in range(self.stages.count):
            share = self._take(number, training=False)
            predictions = self._forward.predict(share)
            if self.stages.is_last and number == self.stages.index:
                mine = predictions
            elif self.stages.is_last:
                self._pipeline.bring_home(number, predictions)
        return mine if self.stages.is_last else self._pipeline.predictions()

    def test_step(self, data: dict | tuple | list) -> list:
        """The model's predictions, as :meth:`val_step`."""
        return self.val_step(data)

    def average_statistics(self) -> None:
        """Average running statistics over the ranks of each stage."""
        self._settle()
        average_statistics(self.module, self.stages.within)

    def whole_state(self, optim_wrapper: OptimWrapper) -> dict | None:
        """Weights and states of the optimizer of all stages, on rank 0.

        All ranks call this; see :meth:`StageWeights.gather`.
        """
        self._settle_optimizer(optim_wrapper)
        return self._weights.gather(optim_wrapper.optimizer)

    def _take(self, number: int, training: bool = True) -> Share:
        """The next share, as this stage takes it in."""
        if self.stages.index:
            return self._pipeline.share(number)
        data, log = self._pipeline.batch_of(number)
        if training and number:
            self._others.append(log)
        return Share(self.module.data_preprocessor(data, training))

    def _train(
        self, share: Share, optim_wrapper: LocalStepMixin, ends: bool
    ) -> Log:
        """Train the modules of this stage on a share."""
        with optim_wrapper.optim_context(self):
            if self.gradient_reducer is not None:
                self.gradient_reducer.begin(ends and self._require_sync)
            own = self._forward.train(share, optim_wrapper)
        return optim_wrapper.step_log, own

    def _settle(self) -> None:
        """Keep the weights of this stage, at the last moment.

        Before, a Runner initializes and loads the whole model.
        """
        if self._settled:
            return
        self._settled = True
        self._weights.settle()
        stages = self.stages
        if stages.replicas == 1:
            return
        group = None
        for layer in self.module.modules():
            if isinstance(layer, nn.SyncBatchNorm):
                group = group or stages.one_more_group()
                layer.process_group = group
        if any(weight.requires_grad for weight in self.module.parameters()):
            cap, compression = self._options
            self.gradient_reducer = GradientReducer(
                self.module, cap, compression, group=stages.within
            )

    def _settle_optimizer(self, optim_wrapper: OptimWrapper) -> None:
        if optim_wrapper is self._optim_wrapper:
            return
        if not isinstance(optim_wrapper, LocalStepMixin):
            raise ValueError(
                f'optim_wrapper.type is {type(optim_wrapper).__name__}, '
                "under which modules do not train alone: write 'mmlocal."
                "LocalOptimWrapper' or 'mmlocal.LocalAmpOptimWrapper'."
            )
        self._settle()
        self._optim_wrapper = optim_wrapper
        optim_wrapper.stages = self.stages
        self._weights.settle_optimizer(optim_wrapper.optimizer)
        if hasattr(optim_wrapper, 'loss_scaler'):
            optim_wrapper.loss_scaler = self.stages.scaler_like(
                optim_wrapper.loss_scaler
            )


def _mean(logs: Sequence[Log]) -> Log:
    """Of the values of all shares, by key."""
    found = []
    for values in zip(*logs, strict=True):
        keys = dict.fromkeys(key for part in values for key in part)
        found.append(
            {
                key: torch.stack(
                    [part[key].float() for part in values if key in part]
                ).mean()
                for key in keys
            }
        )
    return tuple(found) if found else NOTHING
