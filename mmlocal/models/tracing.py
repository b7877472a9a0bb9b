"""One run of a backbone on fake tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from mmlocal.fake_tensors import FakeOps, FakeTensorMode

from .structure import Path, flatten, floats, replaced


@dataclass(frozen=True)
class Argument:
    """A tensor where a submodule takes it.

    Attributes:
        module (str): The submodule.
        path (Path): In its ``(args, kwargs)``.
        call (int): Which of its calls in a forward, from 0.
        begin (int): When that is, in calls of all submodules.
    """

    module: str
    path: Path
    call: int
    begin: int


class Trace:
    """One run of a backbone, in which all that submodules take is a node.

    Args:
        backbone (nn.Module): What runs, in eval mode.
        input_shape (tuple[int, ...]): Of one input.

    Attributes:
        input (Tensor): Of the backbone.
        taken (dict[str, dict[Path, Tensor]]): The floating tensors that each
            submodule takes in, by name, in forward order; of those that are
            called once.
        nodes (dict[str, dict[Path, Node]]): Of these.
        arguments (dict[Node, Argument]): Of all calls, by the node of the
            tensor.
        begins (dict[str, int]): When each submodule is called.
        rejected (dict[str, str]): Why others are left out.
        order (list[str]): All that are called, in forward order.
        outputs (list[Node]): Of the backbone.
        last (Tensor, optional): Its last output.
        weight_names (dict[Tensor, str]): Of the backbone.

    Raises:
        ValueError: If the backbone cannot run on such an input.
    """

    batch_size = 2

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, ...]):
        self.taken: dict[str, dict[Path, Tensor]] = {}
        self.nodes: dict[str, dict[Path, Node]] = {}
        self.arguments: dict[Node, Argument] = {}
        self.begins: dict[str, int] = {}
        self.rejected: dict[str, str] = {}
        self.order: list[str] = []
        self.weight_names = {w: n for n, w in backbone.named_parameters()}
        self._calls: dict[str, int] = {}
        self._time = 0
        hooks = [
            module.register_forward_pre_hook(
                partial(self._record, name), with_kwargs=True
            )
            for name, module in backbone.named_modules()
            if name
        ]
        try:
            outputs = self._run(backbone, tuple(input_shape))
        finally:
            for hook in hooks:
                hook.remove()
        found = [
            out
            for out in flatten(outputs)
            if isinstance(out, Tensor) and out.grad_fn is not None
        ]
        self.outputs = [out.grad_fn for out in found]
        self.last = found[-1] if found else None
        for name, _ in backbone.named_modules():
            if name and name not in self.taken:
                self.rejected.setdefault(name, 'the forward does not call it')

    def _run(self, backbone: nn.Module, input_shape: tuple[int, ...]) -> Any:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        try:
            with (
                plain_eval(backbone),
                mode,
                FakeOps(mode),
                torch.enable_grad(),
            ):
                shape = (self.batch_size, *input_shape)
                self.input = torch.zeros(shape, requires_grad=True)
                return outputs_of(backbone, self.input)
        except Exception as error:
            raise ValueError(_explain(backbone, input_shape, error)) from error

    def _record(
        self, name: str, module: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict]:
        call = self._calls[name] = self._calls.get(name, -1) + 1
        begin = self._time = self._time + 1
        taken = floats((args, kwargs))
        features = {
            path: value.clone()
            for path, value in taken.items()
            if value.requires_grad
        }
        for path, value in features.items():
            argument = Argument(name, path, call, begin)
            self.arguments[value.grad_fn] = argument
        if call:
            self.taken.pop(name, None)
            self.rejected[name] = 'the forward calls it more than once'
        else:
            self.order.append(name)
            self.begins[name] = begin
            if features:
                self.taken[name] = features
                # Not later: a layer in place gives its input another one.
                self.nodes[name] = {
                    path: value.grad_fn for path, value in features.items()
                }
            else:
                self.rejected[name] = (
                    'it runs without gradient'
                    if taken
                    else 'it takes no tensor of features'
                )
        return replaced((args, kwargs), features)


def outputs_of(backbone: nn.Module, images: Tensor) -> Any:
    """Run a backbone on images, with None for what else it insists on.

    As the masks of masked image modeling, which mm's backbones do without
    where they are None.
    """
    _, *others = signature(backbone.forward).parameters.values()
    missing = [
        None
        for parameter in others
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return backbone(images, *missing)


# What a forward raises on an input that does not fit.
SHAPE_ERRORS = (AssertionError, IndexError, RuntimeError, ValueError)


def _explain(
    backbone: nn.Module, input_shape: tuple[int, ...], error: Exception
) -> str:
    text = str(error) or 'no message'
    message = (
        f'model.backbone: {type(backbone).__name__} does not run on an input '
        f'of shape {input_shape}: {type(error).__name__}: '
        f'{text.rstrip(".")}.'
    )
    if isinstance(error, SHAPE_ERRORS):
        message += (
            ' Set `input_shape` of LocalSupervisedBackbone to a (channels, '
            'height, width), or (channels, length), that it takes.'
        )
    return message


@contextmanager
def plain_eval(backbone: nn.Module) -> Iterator[None]:
    """Eval mode without checkpointing, which would hide the graph.

    By attribute, since the ``train()`` of a backbone of an mm library freezes
    stages; layers inside that have one of their own (LeViT's attention
    prepares what its eval mode reads) are called. All of it is undone.
    """
    saved = [
        (module, flag, getattr(module, flag))
        for module in backbone.modules()
        for flag in ('training', 'with_cp')
        if hasattr(module, flag)
    ]
    own = [
        (module, dict(vars(module)))
        for module in backbone.modules()
        if module is not backbone and type(module).train is not _TRAIN
    ]
    weights = [(w, w.requires_grad) for w in backbone.parameters()]
    try:
        for module, _ in own:
            module.train(False)
        for module, flag, _ in saved:
            setattr(module, flag, False)
        yield
    finally:
        for module, state in own:
            vars(module).clear()
            vars(module).update(state)
        for module, flag, value in saved:
            setattr(module, flag, value)
        for weight, requires_grad in weights:
            weight.requires_grad_(requires_grad)


_TRAIN = nn.Module.train
