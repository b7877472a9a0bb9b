"""Where a backbone can be cut, found by one run on fake tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import nn

from .blocks import block_names, innermost_blocks
from .boundary import END, Boundary, Layouts
from .tracing import Graph, Trace


@dataclass(frozen=True)
class CutPoint:
    """A submodule before which only one tensor links the network.

    Args:
        boundary (Boundary): Of the feature that it takes in.
        depth (int): Weight layers before it, along the longest path.
        place (int): Equal for cut points that cut at the same place, as
            ``layer2`` and ``layer2.0`` do.
        is_block (bool): Whether it is an element of a list of modules, and
            not a single layer inside of another block.
    """

    boundary: Boundary
    depth: int
    place: int
    is_block: bool

    @property
    def name(self) -> str:
        """The submodule."""
        return self.boundary.name


@dataclass(frozen=True)
class ModuleParts:
    """Which module owns what.

    Args:
        weights (dict[str, int]): Module by name of a trainable parameter of
            the backbone. By the autograd graph: a class token belongs to the
            module that reads it.
        submodules (dict[str, int]): Module in which a submodule begins, by
            its name.
    """

    weights: dict[str, int]
    submodules: dict[str, int]

    def owner(self, name: str) -> int | None:
        """The module of a weight or buffer; None if no module reads it."""
        if name in self.weights:
            return self.weights[name]
        return self.submodules.get(name.rpartition('.')[0])

    def submodules_of(self, index: int) -> list[str]:
        """Submodules that lie wholly in one module."""
        return [
            name
            for name, owner in self.submodules.items()
            if owner == index
            and all(
                other == index
                for inner, other in self.submodules.items()
                if inner.startswith(f'{name}.')
            )
        ]


@dataclass(frozen=True)
class Split:
    """What a partition decides.

    Args:
        boundaries (Sequence[str]): The first block of each next module.
        checkpointing (str | Sequence[str | None], optional): Mode of all
            modules or of each; None where nothing is said of it.
    """

    boundaries: Sequence[str]
    checkpointing: str | Sequence[str | None] | None = None

    def describe(self) -> str:
        """The lines of a config."""
        lines = [f'boundaries={list(self.boundaries)}']
        if self.checkpointing is not None:
            lines.append(f'checkpointing={self.checkpointing!r}')
        return ', '.join(lines)


class CutPoints:
    """All places where a backbone can be cut, in the order of its forward.

    The backbone runs once, in eval mode, on fake tensors: nothing is
    computed or allocated, and no weight or statistic changes. Each
    submodule's input is made a node of its own in the autograd graph; the
    submodule is a cut point if every path from what comes after it to what
    came before leads through that node.

    Args:
        backbone (nn.Module): Takes a batch of images or signals.
        input_shape (tuple[int, ...]): C, H and W of an image (H = W), or C
            and L of a signal.

    Attributes:
        valid (dict[str, CutPoint]): By name, in forward order.
        rejected (dict[str, str]): Why each other submodule is none.
        depth (int): Weight layers of the whole backbone, along the longest
            path.
        order (list[str]): All submodules, as the forward reaches them.
        innermost (list[str]): Those of them that are blocks and hold no
            other block.
        end (Boundary, optional): Behind the last module: of the backbone's
            last output. None if that has no layout.

    Raises:
        ValueError: If the backbone cannot run on such an input.
    """

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, ...]):
        self.valid: dict[str, CutPoint] = {}
        trace = Trace(backbone, input_shape)
        features = list(trace.features.values())
        layouts = Layouts(input_shape, trace.batch_size, features)
        self.rejected, self.order = trace.rejected, trace.order
        innermost = {*innermost_blocks(backbone)}
        self.innermost = [name for name in self.order if name in innermost]
        self.end = None
        if trace.last is not None:
            self.end = layouts.boundary(END, trace.last)
        graph = Graph(trace.outputs)
        self.depth = graph.total_depth
        blocks = set(block_names(backbone))
        for name, feature in trace.features.items():
            node = feature.grad_fn
            leak = graph.leak(node)
            boundary = layouts.boundary(name, feature)
            if leak or boundary is None:
                self.rejected[name] = leak or (
                    f'its input of shape {tuple(feature.shape)} is not '
                    f'{layouts.expected}'
                )
                continue
            self.valid[name] = CutPoint(
                boundary,
                depth=graph.depth(node),
                place=graph.place(node, trace.nodes),
                is_block=name in blocks,
            )
        self._weights = _first_cuts(backbone, graph, trace, self.valid)

    def modules(self, boundaries: Sequence[str]) -> ModuleParts:
        """What each module consists of, by its place in the forward.

        Args:
            boundaries (Sequence[str]): Names of cut points, in forward order.
        """
        valid = list(self.valid)
        cuts = [valid.index(name) for name in boundaries]
        weights = {
            name: sum(cut < first for cut in cuts)
            for name, first in self._weights.items()
        }
        starts = [self.order.index(name) for name in boundaries]
        submodules = {
            name: sum(start <= place for start in starts)
            for place, name in enumerate(self.order)
        }
        return ModuleParts(weights, submodules)

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

    def check_end(self) -> Boundary:
        """The end of the last module.

        Raises:
            ValueError: If the backbone's last output has no layout.
        """
        if self.end is None:
            raise ValueError(
                "model.backbone.local_end: the backbone's last output is no "
                'square map (N, C, H, W), tokens (N, L, C), sequence '
                '(N, C, L) or vector (N, C), which a local head could read: '
                "choose an output that is (as out_type='raw' of a ViT), or "
                'set local_end=False.'
            )
        return self.end

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


def _first_cuts(
    backbone: nn.Module, graph: Graph, trace: Trace, cuts: Iterable[str]
) -> dict[str, int]:
    """Of each trainable weight, the first cut point that it lies before.

    By number, in forward order; weights behind all of them get the next one.
    """
    names = {weight: name for name, weight in backbone.named_parameters()}
    cuts = list(cuts)
    first = {
        name: len(cuts)
        for weight, name in names.items()
        if weight.requires_grad
    }
    for index, cut in reversed(list(enumerate(cuts))):
        for weight in graph.weights(trace.features[cut].grad_fn):
            # The image is a leaf, too.
            if weight in names:
                first[names[weight]] = index
    return first
