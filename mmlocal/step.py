"""What the engine hands to the models during one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class Stopped(Exception):
    """Ends a forward behind the one module that was to be trained.

    Raised by the backbone when all losses of that forward are propagated;
    the loop that asked for it catches it around ``train_step``.

    Args:
        feat (Tensor, optional): What the module passes on, if it trained.
    """

    def __init__(self, feat: Tensor | None = None):
        super().__init__()
        self.feat = feat


@dataclass
class LocalStep:
    """One forward in training, seen from inside the model.

    Args:
        backward (Callable[[Tensor], None]): Propagates a module's loss, a
            scalar, back at once, under the loss scale and accumulation of
            the optimizer wrapper; frees its graph, and ends the module.
        propagate (Callable[[Tensor], None]): The same, for a further loss
            that ends no module.
        scale (Callable[[Tensor], Tensor]): A loss as these propagate it:
            times the loss scale, divided by the accumulated steps.
        updates (bool): Whether ``backward`` also updates the weights of the
            module that it ends.
        prefixes (Mapping[int, str]): What comes before keys in the log, by
            the ``id`` of a backbone's local heads, where a model has several
            backbones.
        pass_on (Callable[[Tensor], None], optional): Is given what a module
            passes on, detached, as soon as that is known.

    Attributes:
        inputs (Tensor): The *preprocessed* batch (N, C, H, W), as the
            backbone takes it in.
        data_samples (list): Its annotations, as the model's heads get them.
        preprocessor (nn.Module): The model's data preprocessor.
        module_input (Tensor): What the module being trained has taken in,
            detached; for the first one, the batch.
        run_module (Callable[[int, Tensor], Tensor]): Runs a module, by its
            number, from its input, once more; of a backbone that is a chain.
        store (dict[str, Any]): What local heads hand to those behind them,
            and a module beside its output to its own, within one forward of
            one backbone.
        log (dict[str, Tensor]): What local heads reported, detached, with
            the module in the key: ``local_0.loss_task``.
    """

    backward: Callable[[Tensor], None] = Tensor.backward
    inputs: Tensor | None = None
    data_samples: Any = None
    preprocessor: nn.Module | None = None
    propagate: Callable[[Tensor], None] = Tensor.backward
    scale: Callable[[Tensor], Tensor] = Tensor.clone
    updates: bool = False
    prefixes: Mapping[int, str] = field(default_factory=dict)
    pass_on: Callable[[Tensor], None] | None = None
    module_input: Tensor | None = None
    run_module: Callable[[int, Tensor], Tensor] | None = None
    store: dict[str, Any] = field(default_factory=dict)
    log: dict[str, Tensor] = field(default_factory=dict)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == 'inputs' and value is not vars(self).get('inputs'):
            vars(self).pop('pixels', None)
        super().__setattr__(name, value)

    def capture(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        """Forward pre-hook of the model: record the preprocessed batch."""
        names = ('inputs', 'data_samples')
        batch = {**dict(zip(names, args, strict=False)), **kwargs}
        self.inputs = batch.get('inputs')
        self.data_samples = batch.get('data_samples')
        self.preprocessor = getattr(model, 'data_preprocessor', None)
        self.store = {}

    def unscale(self, grad: Tensor) -> Tensor:
        """A gradient as it were without loss scale and accumulation."""
        return grad.float() / self.scale(grad.new_ones((), dtype=torch.float))

    @cached_property
    def pixels(self) -> Tensor:
        """The augmented input mapped back to [0, 1], (N, C, H, W) float32."""
        return to_pixels(self.inputs, self.preprocessor)


def to_pixels(inputs: Tensor, preprocessor: nn.Module | None) -> Tensor:
    """Undo the normalization of a data preprocessor.

    Args:
        inputs (Tensor): Normalized images (N, C, H, W).
        preprocessor (nn.Module, optional): Holds ``mean`` and ``std`` in
            units of 8-bit pixels, in the channel order of ``inputs``; without
            them the images are taken as 0..255 already.

    Returns:
        Tensor: float32 in [0, 1]; clamped, because Mixup, colour jitter and
        rounding can leave the range and BCE accepts no target outside it.
    """
    pixels = inputs.detach().float()
    mean = getattr(preprocessor, 'mean', None)
    if mean is not None:
        mean, std = mean.view(-1, 1, 1), preprocessor.std.view(-1, 1, 1)
        pixels = pixels * std + mean
    return (pixels / 255).clamp_(0, 1)


def check_unnormalized(inputs: Tensor, preprocessor: nn.Module | None) -> None:
    """Raise if images are taken as 0..255 and can be nothing of the kind.

    On an accelerator this waits for the device.

    Args:
        inputs (Tensor): As of :func:`to_pixels`.
        preprocessor (nn.Module, optional): As of :func:`to_pixels`.

    Raises:
        ValueError: If the pipeline has normalized or scaled them, and the
            preprocessor does not know how.
    """
    if getattr(preprocessor, 'mean', None) is not None:
        return
    low, high = inputs.detach().float().aminmax()
    # Resizing overshoots by less.
    below, above = low < -26, high > 281
    scaled = (low >= -10) & (high <= 10) & (inputs != inputs.round()).any()
    if below | above | scaled:
        raise ValueError(
            f'the images that the model gets are {low:.3g} to {high:.3g}, no '
            'pixels of 0 to 255, and model.data_preprocessor has no mean and '
            'std that would tell how they were normalized: write mean and '
            'std there, in units of pixels, and remove Normalize (or what '
            'else scales the images) from train_pipeline.'
        )


_current: ContextVar[LocalStep | None] = ContextVar('local_step', default=None)


def current_step() -> LocalStep | None:
    """The step being trained, None outside ``optim_context``."""
    return _current.get()


@contextmanager
def activate(step: LocalStep) -> Iterator[LocalStep]:
    """Make ``step`` the current one."""
    token = _current.set(step)
    try:
        yield step
    finally:
        _current.reset(token)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside any number of distributed wrappers."""
    from mmengine.model import is_model_wrapper

    while is_model_wrapper(model):
        model = model.module
    return model


@runtime_checkable
class LocalBackbone(Protocol):
    """What the engine may ask of a backbone that is cut into modules."""

    @property
    def num_modules(self) -> int:
        """K."""

    @property
    def module_heads(self) -> dict[int, nn.Module]:
        """Local heads by the number of the module that they train."""

    @property
    def boundary_modules(self) -> dict[str, nn.Module]:
        """The first submodule of each module but the first, by name."""

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """The repeated parts of the network, by name."""

    def module_state(self, index: int) -> dict[str, Tensor]:
        """Weights and buffers of one module, without its local head."""

    def check_chain(self) -> None:
        """Raise if modules do not run from their inputs alone."""

    def module_weights(self, index: int) -> list[nn.Parameter]:
        """The weights of one module and of its local head."""

    def run_module(
        self, index: int, feat: Tensor, recompute: bool = False
    ) -> Tensor:
        """A module's output from its input; trains nothing."""

    @property
    def only(self) -> int | None:
        """The one module that trains, see ``train_only``; None: all."""

    @property
    def local_end(self) -> bool:
        """Whether the last module has a local head."""

    def train_only(
        self, index: int | None, moving_statistics: bool = False
    ) -> None:
        """Train one module and freeze the others; None trains all again."""

    def alone(self, index: int, feat: Tensor | None = None) -> Any:
        """Context in which a forward runs one module, from its input."""

    def reading_out(
        self, stop_behind: int | None = None, logits_only: bool = False
    ) -> Any:
        """Context in which forwards collect what the local heads predict."""


def local_backbone(model: nn.Module) -> LocalBackbone | None:
    """The backbone of a model that is cut into modules, if there is one."""
    modules = (m for m in model.modules() if isinstance(m, LocalBackbone))
    return next(modules, None)


def local_backbones(model: nn.Module) -> dict[str, LocalBackbone]:
    """All backbones of a model that are cut into modules, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LocalBackbone)
    }


@contextmanager
def only_module(
    model: nn.Module, index: int, moving_statistics: bool = False
) -> Iterator[None]:
    """In here one module of a cut backbone trains.

    Beside :meth:`LocalBackbone.train_only`: what lies behind a forward that
    ends early, the model's own head, asks for no gradient, so that nobody
    waits for it.

    Args:
        model (nn.Module): With a :class:`LocalBackbone`; no wrapper of it.
        index (int): Of the module, from 0.
        moving_statistics (bool): Leave those before it in train mode.
            Defaults to False.
    """
    backbone = local_backbone(model)
    behind: list[nn.Parameter] = []
    if index < backbone.num_modules - 1:
        inside = {*backbone.parameters()}
        behind = [
            weight
            for weight in model.parameters()
            if weight.requires_grad and weight not in inside
        ]
    backbone.train_only(index, moving_statistics)
    for weight in behind:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        backbone.train_only(None)
        for weight in behind:
            weight.requires_grad_(True)
