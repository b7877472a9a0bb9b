"""Where a backbone can be cut, found by one run on fake tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node

from .local_heads.base import token_grid

CONTAINERS = (nn.Sequential, nn.ModuleList)
# Autograd nodes of layers that hold a weight matrix.
WEIGHT_NODES = ('Conv', 'Addmm', 'Mm', 'Linear')


@dataclass(frozen=True)
class CutPoint:
    """A submodule before which only one tensor links the network.

    Args:
        name (str): The submodule.
        channels (int): C of the feature that it takes in.
        stride (int): Input pixels a feature cell spans, along a side.
        tokens (bool): Whether the feature is (N, L, C).
        depth (int): Weight layers before it, along the longest path.
        place (int): Equal for cut points that cut at the same place, as
            ``layer2`` and ``layer2.0`` do.
        is_block (bool): Whether it is an element of a list of modules, and
            not a single layer inside of another block.
    """

    name: str
    channels: int
    stride: int
    tokens: bool
    depth: int
    place: int
    is_block: bool


class CutPoints:
    """All places where a backbone can be cut, in the order of its forward.

    The backbone runs once, in eval mode, on fake tensors: nothing is
    computed or allocated, and no weight or statistic changes. Each
    submodule's input is made a node of its own in the autograd graph; the
    submodule is a cut point if every path from what comes after it to what
    came before leads through that node.

    Args:
        backbone (nn.Module): Takes a batch of images.
        input_shape (tuple[int, int, int]): C, H and W of an image; H = W.

    Attributes:
        valid (dict[str, CutPoint]): By name, in forward order.
        rejected (dict[str, str]): Why each other submodule is none.
        depth (int): Weight layers of the whole backbone, along the longest
            path.

    Raises:
        ValueError: If the backbone cannot run on such an input.
    """

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, int, int]):
        self.valid: dict[str, CutPoint] = {}
        trace = _Trace(backbone, input_shape)
        self.rejected = trace.rejected
        graph = _Graph(trace.outputs)
        self.depth = graph.total_depth
        blocks = set(_block_names(backbone))
        for name, feature in trace.features.items():
            node = feature.grad_fn
            leak = graph.leak(node)
            layout = _layout(feature, input_shape)
            if leak or layout is None:
                self.rejected[name] = leak or (
                    f'its input of shape {tuple(feature.shape)} is neither '
                    '(N, C, H, W) nor (N, L, C)'
                )
                continue
            self.valid[name] = CutPoint(
                name,
                *layout,
                depth=graph.depth(node),
                place=graph.place(node, trace.nodes),
                is_block=name in blocks,
            )

    def blocks(self) -> list[CutPoint]:
        """The cut points before blocks, in forward order.

        Of several at the same depth (before a pooling and behind it) the
        last counts; depth 0, before which nothing trains, is left out.
        """
        by_depth = {
            cut.depth: cut
            for cut in self.valid.values()
            if cut.is_block and cut.depth
        }
        return list(by_depth.values())

    def check(self, names: list[str]) -> list[CutPoint]:
        """The cut points of these names.

        Raises:
            ValueError: If a name is no cut point, or the names are not in
                forward order, one place each.
        """
        for name in names:
            if name not in self.valid:
                raise ValueError(self._explain(name))
        cuts = [self.valid[name] for name in names]
        order = list(self.valid)
        for first, second in zip(cuts, cuts[1:], strict=False):
            if first.place == second.place:
                raise ValueError(
                    f'model.backbone.boundaries: {first.name!r} and '
                    f'{second.name!r} cut at the same place, so that a '
                    'module would be empty; leave one out.'
                )
            if order.index(first.name) > order.index(second.name):
                raise ValueError(
                    'model.backbone.boundaries: the forward reaches '
                    f'{second.name!r} before {first.name!r}; write '
                    f'{sorted(names, key=order.index)}.'
                )
        for cut in cuts:
            if cut.depth == 0:
                raise ValueError(
                    f'model.backbone.boundaries: no layer is before '
                    f'{cut.name!r}, so that the first module would be empty.'
                )
        return cuts

    def _explain(self, name: str) -> str:
        reason = self.rejected.get(name, 'the backbone has no such submodule')
        close = get_close_matches(str(name), self.valid, n=3)
        hint = f' Did you mean {" or ".join(map(repr, close))}?'
        return (
            f'model.backbone.boundaries: cannot cut before {name!r}: '
            f'{reason}.{hint if close else ""} Boundaries name the first '
            'block of each next module; this backbone can be cut before: '
            f'{summarize(cut.name for cut in self.blocks())}.'
        )


def summarize(names: Iterable[str]) -> str:
    """Join names; runs of numbered ones become ``layer3.0 .. layer3.22``."""
    groups: list[list[str]] = []
    for name in names:
        prefix = re.sub(r'\d+$', '', name)
        if groups and re.sub(r'\d+$', '', groups[-1][0]) == prefix != name:
            groups[-1].append(name)
        else:
            groups.append([name])
    return ', '.join(
        ', '.join(group) if len(group) < 3 else f'{group[0]} .. {group[-1]}'
        for group in groups
    )


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
        elif any(isinstance(item, Tensor) for item in _flatten(value)):
            return None
    return keys[0] if len(keys) == 1 else None


def replace(
    args: tuple, kwargs: dict, key: int | str, value: Tensor
) -> tuple[tuple, dict]:
    """A module's arguments with the one at ``key`` replaced."""
    if isinstance(key, str):
        return args, {**kwargs, key: value}
    return (*args[:key], value, *args[key + 1 :]), kwargs


class _Trace:
    """One run of a backbone; every submodule's input is a node."""

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, int, int]):
        self.features: dict[str, Tensor] = {}
        self.rejected: dict[str, str] = {}
        hooks = [
            module.register_forward_pre_hook(
                partial(self._record, name), with_kwargs=True
            )
            for name, module in backbone.named_modules()
            if name
        ]
        try:
            with (
                _plain_eval(backbone),
                FakeTensorMode(allow_non_fake_inputs=True),
                torch.enable_grad(),
            ):
                image = torch.zeros(2, *input_shape, requires_grad=True)
                outputs = backbone(image)
        except Exception as error:
            raise ValueError(
                f'model.backbone: {type(backbone).__name__} does not run on '
                f'an input of shape {tuple(input_shape)}: {error}. Set '
                '`input_shape` of LocalSupervisedBackbone to a (channels, '
                'height, width) that it takes.'
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        self.outputs = [
            out.grad_fn
            for out in _flatten(outputs)
            if isinstance(out, Tensor) and out.grad_fn is not None
        ]
        self.nodes = {feat.grad_fn for feat in self.features.values()}
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
        key = single_tensor(args, kwargs)
        if key is None:
            self.rejected[name] = 'it does not take exactly one tensor'
            return None
        value = (args[key] if isinstance(key, int) else kwargs[key]).clone()
        if value.grad_fn is None:
            self.rejected[name] = 'it runs without gradient'
            return None
        self.features[name] = value
        return replace(args, kwargs, key, value)


class _Graph:
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
def _plain_eval(backbone: nn.Module) -> Iterator[None]:
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


def _block_names(backbone: nn.Module) -> Iterator[str]:
    modules = dict(backbone.named_modules())
    for name, module in modules.items():
        parent, _, child = name.rpartition('.')
        if not (child.isdigit() and isinstance(modules[parent], CONTAINERS)):
            continue
        parts = parent.split('.')
        outer = ('.'.join(parts[:i]) for i in range(1, len(parts) + 1))
        inside_block = any(_is_block(each, modules[each]) for each in outer)
        if not inside_block or _weight_layers(module) > 1:
            yield name


def _is_block(name: str, module: nn.Module) -> bool:
    return name.rpartition('.')[2].isdigit() and (
        not isinstance(module, CONTAINERS) or _weight_layers(module) < 2
    )


def _weight_layers(module: nn.Module) -> int:
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return sum(isinstance(child, kinds) for child in module.modules())


def _layout(
    feature: Tensor, input_shape: tuple[int, int, int]
) -> tuple[int, int, bool] | None:
    """(channels, stride, tokens) of a feature, None if it is no map."""
    side = input_shape[-1]
    if feature.ndim == 4 and feature.shape[2] == feature.shape[3]:
        return feature.shape[1], round(side / feature.shape[2]), False
    if feature.ndim == 3 and (grid := token_grid(feature.shape[1])):
        return feature.shape[2], round(side / grid[0]), True
    return None


def _flatten(value) -> Iterator:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flatten(item)
    elif isinstance(value, dict):
        yield from _flatten(list(value.values()))
    else:
        yield value


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
