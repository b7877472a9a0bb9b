"""Where a backbone can be cut, found by one run on fake tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from .blocks import block_names
from .local_heads.base import token_grid
from .tracing import Graph, Trace


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
        backbone (nn.Module): Takes a batch of images.
        input_shape (tuple[int, int, int]): C, H and W of an image; H = W.

    Attributes:
        valid (dict[str, CutPoint]): By name, in forward order.
        rejected (dict[str, str]): Why each other submodule is none.
        depth (int): Weight layers of the whole backbone, along the longest
            path.
        order (list[str]): All submodules, as the forward reaches them.

    Raises:
        ValueError: If the backbone cannot run on such an input.
    """

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, int, int]):
        self.valid: dict[str, CutPoint] = {}
        trace = Trace(backbone, input_shape)
        self.rejected, self.order = trace.rejected, trace.order
        graph = Graph(trace.outputs)
        self.depth = graph.total_depth
        blocks = set(block_names(backbone))
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
