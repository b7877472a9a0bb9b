"""Optimizer wrappers under which modules propagate losses of their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlocal.registry import OPTIM_WRAPPERS
from mmlocal.step import (
    LocalBackbone,
    LocalStep,
    Stopped,
    activate,
    local_backbones,
    unwrap,
)


class LocalStepMixin:
    """Opens a :class:`LocalStep` for the length of ``optim_context``.

    ``optim_context`` is the one place of mmengine that sees the model,
    brackets exactly the training forward, is entered alike by one process
    and by DDP, and belongs to the object that owns loss scaling and
    gradient accumulation.

    Attributes:
        step_log (dict[str, Tensor]): What the local heads reported in the
            last forward, detached, still on the device.
        stages (Stages, optional): Of a :class:`mmlocal.ModuleParallel`, which
            sets it.
        during (Callable[[str], AbstractContextManager]): Entered around each
            'backward' and each 'update' of weights; for those who watch.
    """

    step_log: dict[str, Tensor] = {}
    stages: Any = None
    during: Callable[[str], AbstractContextManager] = staticmethod(nullcontext)
    # Of a LocalDistributedDataParallel, or a LocalFSDP.
    _gradient_reducer: Any = None
    # Whether gradients of the last forward have come.
    _begun = False
    # Whether each module is updated as soon as its backward is done.
    _by_module = False
    # The model of the last forward, and its backbones by name.
    _model: Callable[[], nn.Module | None] | None = None
    _backbones: Mapping[str, LocalBackbone] = {}

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Make local backward passes possible inside ``model``'s forward.

        Args:
            model (nn.Module): The model, or a distributed wrapper of it.
        """
        self._gradient_reducer = getattr(model, 'gradient_reducer', None)
        step = LocalStep(
            backward=self.local_backward,
            propagate=self.propagate,
            scale=lambda loss: self._apply_loss_scale(self.scale_loss(loss)),
            updates=self._by_module,
            prefixes=self._log_prefixes(unwrap(model)),
        )
        handle = unwrap(model).register_forward_pre_hook(
            step.capture, with_kwargs=True
        )
        self._begun = False
        try:
            with (
                self._all_or_nothing(),
                super().optim_context(model),
                activate(step),
            ):
                yield
        finally:
            handle.remove()
            self.step_log = step.log

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide a loss by all that is accumulated for a step."""
        loss = super().scale_loss(loss)
        return loss if self.stages is None else loss / self.stages.count

    def local_backward(self, loss: Tensor) -> None:
        """Propagate a module's loss back and end the module.

        Args:
            loss (Tensor): Scalar; one without a graph, as of a frozen
                module, only ends it.
        """
        if loss.requires_grad:
            self.propagate(loss)
        if self._gradient_reducer is not None:
            self._gradient_reducer.end_module()

    def propagate(self, loss: Tensor) -> None:
        """Propagate a local loss back and free its graph.

        The loss is divided for accumulation and multiplied by the loss scale
        like the last module's, but ``_inner_count`` is left alone: a step is
        counted once, by the last module. Autocast is switched off, because
        inside it backward runs fp32 parts of the graph in low precision.

        Args:
            loss (Tensor): Scalar.
        """
        loss = self._apply_loss_scale(self.scale_loss(loss))
        autocast = torch.autocast(loss.device.type, enabled=False)
        self._begun = True
        with self.during('backward'), autocast:
            loss.backward()

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Propagate the model's own loss back, and count the step."""
        self._begun = True
        # A plain try: torch.compile stumbles over a generator here
        # (https://github.com/pytorch/pytorch/issues/130559).
        try:
            with self.during('backward'):
                super().backward(loss, **kwargs)
        except Exception as error:
            self._drop_gradients(error)
            raise

    def finish(self) -> None:
        """End a step whose forward was stopped behind a module.

        What ``update_params`` does, with nothing left to propagate.
        """
        self._inner_count += 1
        if self.should_update():
            self.step()
            self.zero_grad()

    def step(self, **kwargs) -> None:
        """Wait for the gradients of all ranks, clip them, and step."""
        self._wait_for_gradients()
        with self.during('update'):
            super().step(**kwargs)

    def _log_prefixes(self, model: nn.Module) -> dict[int, str]:
        """Of a model with several backbones; looked for once a model."""
        if self._model is None or self._model() is not model:
            self._model = weakref.ref(model)
            self._backbones = local_backbones(model)
        if len(self._backbones) < 2:
            return {}
        return {
            id(backbone.local_heads): f'{name}.'
            for name, backbone in self._backbones.items()
        }

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave no gradients of some modules behind where a step fails.

        Whoever skips the batch would add them to the next one. What earlier
        forwards have accumulated goes with them: it cannot be told apart.
        """
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            self._drop_gradients(error)
            raise

    def _drop_gradients(self, error: Exception) -> None:
        if self._begun:
            self.zero_grad()
        if self._gradient_reducer is not None:
            self._gradient_reducer.abort(error)

    def _wait_for_gradients(
        self, params: Iterable[nn.Parameter] | None = None
    ) -> None:
        if self._gradient_reducer is not None:
            self._gradient_reducer.wait(params)

    def _clip_grad(self) -> None:
        if self.stages is None or self.grad_name != 'grad_norm':
            super()._clip_grad()
            return
        params = [
            p for group in self.optimizer.param_groups for p in group['params']
        ]
        norm = self.stages.clip_grad_norm(
            [p for p in params if p.grad is not None], **self.clip_grad_kwargs
        )
        self.message_hub.update_scalar(f'train/{self.grad_name}', float(norm))

    def _apply_loss_scale(self, loss: Tensor) -> Tensor:
        return loss


@OPTIM_WRAPPERS.register_module()
class LocalOptimWrapper(LocalStepMixin, OptimWrapper):
    """:class:`mmengine.optim.OptimWrapper` for local training.

    By default gradients of all modules are accumulated during the forward
    and applied by one ``step`` after the last backward, so ``clip_grad``
    takes one norm over all modules.

    Args:
        optimizer (Optimizer): As in ``OptimWrapper``.
        step (str): 'iteration', or 'module': each module's weights are
            updated and its gradients freed as soon as its backward is done,
            so that only one module's gradients are in memory at a time. The
            weights after an iteration are the same. Defaults to 'iteration'.
        **kwargs: Passed to :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``step='module'`` meets gradient accumulation or
            clipping, which need all gradients at once.
    """

    def __init__(
        self, optimizer: Optimizer, step: str = 'iteration', **kwargs
    ):
        super().__init__(optimizer=optimizer, **kwargs)
        if step not in ('iteration', 'module'):
            raise ValueError(
                f"optim_wrapper.step: {step!r} is unknown; write 'iteration' "
                "or 'module'."
            )
        self._by_module = step == 'module'
        self._updated: set[Tensor] = set()
        if self._by_module and self._accumulative_counts > 1:
            raise ValueError(
                "optim_wrapper.step='module' frees a module's gradients at "
                'once, and cannot accumulate them: remove '
                'accumulative_counts, or step.'
            )
        if self._by_module and self.clip_grad_kwargs:
            raise ValueError(
                "optim_wrapper.step='module' never has all gradients, and "
                'clip_grad takes one norm over all of them: remove '
                'clip_grad, or step.'
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Make local backward passes possible inside ``model``'s forward."""
        if self._by_module and is_model_wrapper(model):
            raise ValueError(
                "optim_wrapper.step='module' would step before "
                f'{type(model).__name__} has averaged the gradients of the '
                'ranks: remove step.'
            )
        self._updated.clear()
        with super().optim_context(model):
            yield

    def local_backward(self, loss: Tensor) -> None:
        """Propagate a module's loss back; update the module if so set."""
        super().local_backward(loss)
        if self._by_module:
            self.step()
            self.zero_grad()

    def step(self, **kwargs) -> None:
        """Update the weights that have a gradient.

        Raises:
            RuntimeError: If ``step='module'`` and two modules share a weight.
        """
        if self._by_module:
            weights = {
                weight
                for group in self.param_groups
                for weight in group['params']
                if weight.grad is not None
            }
            if shared := weights & self._updated:
                shapes = [tuple(weight.shape) for weight in shared]
                raise RuntimeError(
                    f'weights of shapes {shapes} have a gradient from two '
                    "modules, which optim_wrapper.step='module' would apply "
                    'one after the other: remove step.'
                )
            self._updated |= weights
        super().step(**kwargs)


@OPTIM_WRAPPERS.register_module()
class LocalAmpOptimWrapper(LocalStepMixin, AmpOptimWrapper):
    """:class:`mmengine.optim.AmpOptimWrapper` for local training.

    All losses share one loss scale: an overflow in any module skips the
    whole step. Without an accelerator it runs under CPU autocast (bfloat16
    by default, as torch does), where the original refuses to be built.

    Args:
        loss_scale (float | str | dict): As in ``AmpOptimWrapper``.
            Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): 'float16' or 'bfloat16'; None
            takes the device's default. Defaults to None.
        **kwargs: Passed to :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``use_fsdp`` is set, which is for FSDP1; or ``step``
            is not 'iteration': all modules share one loss scale.
    """

    def __init__(
        self,
        loss_scale: float | str | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        step: str = 'iteration',
        **kwargs,
    ):
        if step != 'iteration':
            raise ValueError(
                'optim_wrapper.step: an overflow in any module has to skip '
                'the whole step, which is known after the last backward '
                "only; remove it, or use 'mmlocal.LocalOptimWrapper'."
            )
        if use_fsdp:
            raise ValueError(
                'optim_wrapper.use_fsdp: that FSDP shards the whole forward '
                'and cannot run local backward passes; remove it and write '
                "model_wrapper_cfg=dict(type='mmlocal.LocalFSDP')."
            )
        self._cpu_dtype = None
        if torch.accelerator.is_available():
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
        else:
            self._init_on_cpu(loss_scale, dtype, **kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, then as :class:`LocalOptimWrapper`."""
        # On CPU mmengine's autocast knows bfloat16 alone, and on a machine
        # with an accelerator nothing of a model on the CPU. torch's, entered
        # inside, overrides it.
        # Weights of other ranks are on none.
        there = (w for w in model.parameters() if not w.is_meta)
        weight = next(there, None)
        cpu_autocast = torch.autocast(
            'cpu',
            dtype=self._cpu_dtype or self.cast_dtype,
            enabled=weight is not None and weight.device.type == 'cpu',
        )
        with super().optim_context(model), cpu_autocast:
            yield

    def _init_on_cpu(
        self,
        loss_scale: float | str | dict,
        dtype: str | torch.dtype | None,
        **kwargs,
    ) -> None:
        # AmpOptimWrapper.__init__ asserts an accelerator, and its scaler is
        # bound to CUDA; everything else of it works on CPU as it is.
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        options = {}
        if isinstance(loss_scale, dict):
            options = loss_scale
        elif loss_scale != 'dynamic':
            options = dict(init_scale=float(loss_scale))
            self._scale_update_param = float(loss_scale)
        self.loss_scaler = torch.amp.GradScaler('cpu', **options)
        if isinstance(dtype, str):
            dtype = getattr(torch, dtype)
        self.cast_dtype, self._cpu_dtype = None, dtype

    def _apply_loss_scale(self, loss: Tensor) -> Tensor:
        return self.loss_scaler.scale(loss)
