"""Where a backbone can be cut, found by one run on fake tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from torch import Tensor, nn

from .blocks import block_names, innermost_blocks, weight_layers
from .boundary import END, Boundary, Layouts
from .graph import Crossing, Graph, NoCut
from .joining import joined_boundary
from .module_parts import ModuleParts, assign_parts
from .structure import Path
from .tracing import Trace


@dataclass(frozen=True)
class CutPoint:
    """A submodule before which the network can be cut.

    Args:
        boundary (Boundary): Of the feature that the local head reads there.
        depth (int): Weight layers before it, along the longest path.
        place (tuple[int, ...]): Equal for cut points that cut at the same
            place, as ``layer2`` and ``layer2.0`` do.
        is_block (bool): Whether it is an element of a list of modules, and
            not a single layer inside of another block; without such lists,
            whether it is a submodule of the backbone's own.
        crossing (Crossing): What goes from the modules before to those
            behind.
    """

    boundary: Boundary
    depth: int
    place: tuple[int, ...]
    is_block: bool
    crossing: Crossing

    @property
    def name(self) -> str:
        """The submodule."""
        return self.boundary.name


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
    computed or allocated, and no weight or statistic changes. Each tensor
    that a submodule takes is made a node of its own in the autograd graph;
    the submodule is a cut point if every path from what comes after it to
    what came before leads through such a node, there or further on.

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
        features = [
            feat for taken in trace.taken.values() for feat in taken.values()
        ]
        layouts = Layouts(input_shape, trace.batch_size, features)
        self.rejected, self.order = trace.rejected, trace.order
        innermost = {*innermost_blocks(backbone)}
        self.innermost = [name for name in self.order if name in innermost]
        self.end = None
        if trace.last is not None:
            end = layouts.boundary(END, trace.last)
            if end is not None and end.layout != 'grid':
                self.end = end
        graph = Graph(trace)
        self.depth = graph.total_depth
        blocks = {*block_names(backbone), *innermost}
        # Submodules with layers that are no part of a block.
        self._layered = {
            name
            for name, module in backbone.named_modules()
            if weight_layers(module)
            and not any(name.startswith(f'{block}.') for block in blocks)
        }
        for name, taken in trace.taken.items():
            try:
                crossing = graph.crossing(name)
                parts = _boundaries(crossing, taken, layouts)
            except NoCut as reason:
                self.rejected[name] = str(reason)
                continue
            self.valid[name] = CutPoint(
                joined_boundary(parts),
                graph.depth(crossing),
                graph.place(crossing),
                is_block=name in blocks,
                crossing=replace(crossing, parts=tuple(parts)),
            )
        self._weights = self._cuts_behind(trace, graph)

    def modules(self, boundaries: Sequence[str]) -> ModuleParts:
        """What each module consists of, by its place in the forward.

        Args:
            boundaries (Sequence[str]): Names of cut points, in forward order.
        """
        valid = list(self.valid)
        return assign_parts(
            self._weights,
            self.order,
            [(name, valid.index(name)) for name in boundaries],
        )

    def places(self) -> list[CutPoint]:
        """The cut points to choose among, in forward order.

        Places that one tensor crosses come first; where those before blocks
        leave a long stretch, others with skips count, too. Depth 0, before
        which nothing trains, is left out.
        """
        cuts = self._complete()
        blocks = [c for c in cuts if c.is_block and c.crossing.single]
        return [
            cut
            for cut in cuts
            if cut.crossing.single or self._in_long_stretch(cut, blocks)
        ]

    def blocks(self) -> list[CutPoint]:
        """Those to choose among by depth, in forward order.

        Places before blocks that one tensor crosses. Where they leave a
        stretch of more than half of the depth without any, those with skips
        count, too; and where these leave one, places before any submodule
        that holds layers. Of several at the same depth (before a pooling and
        behind it) the last counts.
        """
        cuts = self._complete()
        chosen = [c for c in cuts if c.is_block and c.crossing.single]
        for more in (
            [cut for cut in cuts if cut.is_block],
            _outermost([cut for cut in cuts if cut.name in self._layered]),
        ):
            new = [c for c in more if self._in_long_stretch(c, chosen)]
            names = {cut.name for cut in [*chosen, *new]}
            chosen = [cut for cut in cuts if cut.name in names]
        return _deepening(chosen)

    def _cuts_behind(self, trace: Trace, graph: Graph) -> dict[str, int]:
        """Of each trainable weight, the cut points that it lies before.

        By number, in forward order, as bits of an integer.
        """
        names = trace.weight_names
        found = {n: 0 for weight, n in names.items() if weight.requires_grad}
        for index, cut in enumerate(self.valid.values()):
            for weight in graph.weights(cut.crossing):
                # The image is a leaf, too.
                if weight in names:
                    found[names[weight]] |= 1 << index
        # Tokens in place of patches show with a mask alone, and LeViT's biases
        # in train mode: they belong where their submodule begins.
        begins, reached = {'': 0, **trace.begins}, graph.leaves()
        for weight, name in names.items():
            begin = begins.get(name.rpartition('.')[0])
            if name in found and weight not in reached and begin is not None:
                found[name] = sum(
                    1 << index
                    for index, cut in enumerate(self.valid)
                    if begins[cut] > begin
                )
        return found

    def _complete(self) -> list[CutPoint]:
        cuts = [cut for cut in self.valid.values() if cut.depth]
        # A branch that would stay in memory all along is a last resort.
        return [cut for cut in cuts if cut.crossing.complete] or cuts

    def _in_long_stretch(self, cut: CutPoint, chosen: list[CutPoint]) -> bool:
        ends = [0, *(each.depth for each in _deepening(chosen)), self.depth]
        return any(
            begin < cut.depth < end and 2 * (end - begin) > self.depth
            for begin, end in zip(ends, ends[1:], strict=False)
        )

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
        names = [cut.name for cut in self.valid.values() if cut.depth]
        close = get_close_matches(str(name), names, n=3)
        hint = f' Did you mean {" or ".join(map(repr, close))}?'
        message = (
            f'model.backbone.boundaries: cannot cut before {name!r}: '
            f'{reason}.{hint if close else ""} Boundaries name the first '
            'block of each next module; '
        )
        blocks = [cut.name for cut in self.blocks()] or names
        if not blocks:
            return f'{message}{self.why_none()}'
        return (
            f'{message}this backbone can be cut before: {summarize(blocks)}.'
        )

    def why_none(self) -> str:
        """Says why a backbone cannot be cut anywhere."""
        reasons = Counter(self.rejected.values())
        reasons['no layer is before it'] += len(self.valid)
        total = sum(reasons.values())
        reason, count = reasons.most_common(1)[0]
        return (
            'this backbone can be cut before none of its submodules: '
            f'{reason} (so with {count} of {total}).'
        )


def _deepening(cuts: Iterable[CutPoint]) -> list[CutPoint]:
    """In forward order; of each depth the last, and none before a lower."""
    found: list[CutPoint] = []
    for cut in reversed(list(cuts)):
        if not found or cut.depth < found[-1].depth:
            found.append(cut)
    return found[::-1]


def _outermost(cuts: list[CutPoint]) -> list[CutPoint]:
    """Of each depth the last place, by the name of the outermost module."""
    places = {cut.depth: cut.place for cut in cuts}
    return [
        min(
            (cut for cut in cuts if (cut.depth, cut.place) == last),
            key=lambda cut: cut.name.count('.'),
        )
        for last in places.items()
    ]


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


def _boundaries(
    crossing: Crossing, taken: dict[Path, Tensor], layouts: Layouts
) -> list[Boundary]:
    """Of each tensor that a head reads.

    Raises:
        NoCut: If a head cannot read them.
    """
    parts = []
    for path in crossing.reads:
        boundary = layouts.boundary(crossing.name, taken[path])
        if boundary is None:
            raise NoCut(
                f'its input of shape {tuple(taken[path].shape)} is not '
                f'{layouts.expected}'
            )
        parts.append(boundary)
    if joined_boundary(parts) is None:
        raise NoCut(
            'it takes several features, which a head cannot read together: '
            + ', '.join(
                f'{part.layout} of {part.patches} an image' for part in parts
            )
        )
    return parts
