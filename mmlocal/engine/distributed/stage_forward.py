"""The modules of one stage, on what the stage before it has sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mmlocal.engine.optim import LocalStepMixin
from mmlocal.step import LocalBackbone, Stopped, current_step

from .pipeline import Share
from .stages import Stages


class StageForward:
    """Runs the model as far as one stage of it goes.

    The first stage runs what the model does before its backbone; the last
    one what it does behind it.

    Args:
        model (nn.Module): Of which the weights of this stage are there.
        backbone (LocalBackbone): Of the model.
        stages (Stages): Which modules are this stage's.
        pass_on (Callable[[Share], None]): Is given what the next stage takes
            in, in training before the loss of this one is computed.
    """

    def __init__(
        self,
        model: nn.Module,
        backbone: LocalBackbone,
        stages: Stages,
        pass_on: Callable[[Share], None],
    ):
        self.model, self.backbone = model, backbone
        self.modules, self.is_last = stages.modules, stages.is_last
        self.pass_on = pass_on

    def train(
        self, share: Share, optim_wrapper: LocalStepMixin
    ) -> dict[str, Tensor]:
        """Train the modules on a share, inside of ``optim_context``.

        Returns:
            dict[str, Tensor]: Of the model's own heads, on the last stage.
        """
        step, log = current_step(), {}
        for index in self.modules:
            if index == self.modules[-1] and not self.is_last:
                step.pass_on = lambda feat, share=share: self.pass_on(
                    replace(share, feat=feat)
                )
            with self._from(index, share):
                try:
                    losses = self.model._run_forward(share.data, 'loss')
                except Stopped as stopped:
                    share = replace(share, feat=stopped.feat)
                    continue
            loss, log = self.model.parse_losses(losses)
            optim_wrapper.propagate(loss)
        return log

    def predict(self, share: Share) -> list | None:
        """Predict on the last stage; on others, pass on.

        Returns:
            list | None: What the model predicts.
        """
        if self.is_last:
            with self._from(self.modules[0], share):
                return self.model._run_forward(share.data, 'predict')
        feat = share.feat
        if feat is None:
            feat = self._input(share.data)
        for index in self.modules:
            feat = self.backbone.run_module(index, feat)
        self.pass_on(replace(share, feat=feat))
        return None

    def _input(self, data: Any) -> Tensor:
        """What the model gives its backbone."""

        def stop(module: nn.Module, args: tuple, kwargs: dict) -> None:
            given = (*args, *kwargs.values())
            raise Stopped(next(x for x in given if isinstance(x, Tensor)))

        handle = self.backbone.register_forward_pre_hook(
            stop, with_kwargs=True
        )
        try:
            self.model._run_forward(data, 'predict')
        except Stopped as stopped:
            return stopped.feat
        finally:
            handle.remove()

    @contextmanager
    def _from(self, index: int, share: Share) -> Iterator[None]:
        """In here the model's backbone begins with a module."""
        entry = nullcontext()
        if index or self.model.training:
            entry = self.backbone.alone(index, share.feat)
        calls = []

        def count(module: nn.Module, args: tuple) -> None:
            calls.append(module)
            if len(calls) > 1:
                raise RuntimeError(
                    f'{type(self.model).__name__} runs its backbone more '
                    'than once a batch, and the stages before have computed '
                    "one feature: write test_cfg=dict(mode='whole') and leave "
                    'out test-time augmentation, or model_wrapper_cfg='
                    "dict(type='mmlocal.LocalDistributedDataParallel')."
                )

        handle = self.backbone.register_forward_pre_hook(count)
        try:
            with entry:
                yield
        finally:
            handle.remove()
