"""A backbone's autograd graph, from one run on fake tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from mmlocal.fake_tensors import FakeTensorMode

# Autograd nodes of layers that hold a weight matrix.
WEIGHT_NODES = ('Conv', 'Addmm', 'Mm', 'Linear')


def single_tensor(args: tuple, kwargs: dict) -> int | str | None:
    """Key of the one floating tensor among a module's arguments.

    Returns:
        int | str | None: Position or keyword; None if there are several, or
        if tensors come in a list.
    """
    keys = []
    for key, value in [*enumerate(args), *kwargs.items()]:
        if isinstance(value, Tensor) and value.is_floating_point():
            keys.append(key)
        elif any(isinstance(item, Tensor) for item in flatten(value)):
            return None
    return keys[0] if len(keys) == 1 else None


def replace(
    args: tuple, kwargs: dict, key: int | str, value: Tensor
) -> tuple[tuple, dict]:
    """A module's arguments with the one at ``key`` replaced."""
    if isinstance(key, str):
        return args, {**kwargs, key: value}
    return (*args[:key], value, *args[key + 1 :]), kwargs


class Trace:
    """One run of a backbone, in which every submodule's input is a node.

    Attributes:
        features (dict[str, Tensor]): What each submodule takes in, by name, in
            forward order.
        rejected (dict[str, str]): Why others are left out.
        order (list[str]): All that are called, in forward order.
        outputs (list[Node]): Of the backbone.
        last (Tensor, optional): Its last output.
        nodes (set[Node]): Of all inputs, those of rejected ones too.
    """

    batch_size = 2

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, ...]):
        self.features: dict[str, Tensor] = {}
        self.rejected: dict[str, str] = {}
        self.order: list[str] = []
        self.nodes: set[Node] = set()
        hooks = [
            module.register_forward_pre_hook(
                partial(self._record, name), with_kwargs=True
            )
            for name, module in backbone.named_modules()
            if name
        ]
        try:
            with (
                plain_eval(backbone),
                FakeTensorMode(allow_non_fake_inputs=True),
                torch.enable_grad(),
            ):
                shape = (self.batch_size, *input_shape)
                outputs = backbone(torch.zeros(shape, requires_grad=True))
        except Exception as error:
            raise ValueError(
                f'model.backbone: {type(backbone).__name__} does not run on '
                f'an input of shape {tuple(input_shape)}: {error}. Set '
                '`input_shape` of LocalSupervisedBackbone to a (channels, '
                'height, width), or (channels, length), that it takes.'
            ) from error
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
            if name and name not in self.features:
                self.rejected.setdefault(name, 'the forward does not call it')

    def _record(
        self, name: str, module: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        if name in self.features or name in self.rejected:
            self.features.pop(name, None)
            self.rejected[name] = 'the forward calls it more than once'
            return None
        self.order.append(name)
        key = single_tensor(args, kwargs)
        if key is None:
            self.rejected[name] = 'it does not take exactly one tensor'
            return None
        value = (args[key] if isinstance(key, int) else kwargs[key]).clone()
        if value.grad_fn is None:
            self.rejected[name] = 'it runs without gradient'
            return None
        self.features[name] = value
        self.nodes.add(value.grad_fn)
        return replace(args, kwargs, key, value)


class Graph:
    """An autograd graph with sets of nodes as bits of integers."""

    def __init__(self, outputs: list[Node]):
        self._index: dict[Node, int] = {}
        self._nodes: list[Node] = []
        self._parents: list[list[int]] = []
        self._ancestors: list[int] = []
        self._depths: list[int] = []
        for output in outputs:
            self._add(output)
        self._outputs = [self._index[output] for output in outputs]
        self.total_depth = max(self._depths, default=0)

    def leak(self, node: Node) -> str | None:
        """Why the network cannot be cut at ``node``; None if it can."""
        cut = self._index.get(node)
        before = self._ancestors[cut] if cut is not None else 0
        after = 0
        for output in self._outputs:
            if cut is not None and self._below(output) >> cut & 1:
                after |= self._below(output)
        if not after:
            return 'no output of the backbone depends on it'
        after &= ~(before | 1 << cut)
        for index in _bits(after):
            for parent in self._parents[index]:
                if before >> parent & 1:
                    return (
                        'a path goes around it (it lies inside a residual '
                        'or other branch, or a weight is used on both sides)'
                    )
        return None

    def depth(self, node: Node) -> int:
        """Weight layers on the longest path up to ``node``."""
        return self._depths[self._index[node]]

    def weights(self, node: Node) -> Iterator[Tensor]:
        """Leaves that ``node`` depends on."""
        for index in _bits(self._ancestors[self._index[node]]):
            if hasattr(self._nodes[index], 'variable'):
                yield self._nodes[index].variable

    def place(self, node: Node, inputs: set[Node]) -> int:
        """The node that computed what ``node``, an input, passes on."""
        index = self._index[node]
        while self._nodes[index] in inputs:
            index = self._parents[index][0]
        return index

    def _below(self, index: int) -> int:
        return self._ancestors[index] | 1 << index

    def _add(self, output: Node) -> None:
        stack = [(output, False)]
        while stack:
            node, expanded = stack.pop()
            if node in self._index:
                continue
            parents = [fn for fn, _ in node.next_functions if fn is not None]
            if not expanded:
                stack.append((node, True))
                stack += [(fn, False) for fn in parents]
                continue
            indices = [self._index[fn] for fn in parents]
            ancestors = 0
            for index in indices:
                ancestors |= self._below(index)
            depth = max((self._depths[i] for i in indices), default=0)
            weight = node.name().startswith(WEIGHT_NODES)
            self._index[node] = len(self._nodes)
            self._nodes.append(node)
            self._parents.append(indices)
            self._ancestors.append(ancestors)
            self._depths.append(depth + weight)


@contextmanager
def plain_eval(backbone: nn.Module) -> Iterator[None]:
    """Eval mode without checkpointing, which would hide the graph."""
    flags = ('training', 'with_cp')
    saved = [
        (module, flag, getattr(module, flag))
        for module in backbone.modules()
        for flag in flags
        if hasattr(module, flag)
    ]
    # By attribute: `train()` of some mm backbones does more than that.
    for module, flag, _ in saved:
        setattr(module, flag, False)
    try:
        yield
    finally:
        for module, flag, value in saved:
            setattr(module, flag, value)


def flatten(value) -> Iterator:
    """The leaves of nested lists, tuples and dicts."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flatten(item)
    elif isinstance(value, dict):
        yield from flatten(list(value.values()))
    else:
        yield value


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
