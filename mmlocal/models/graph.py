"""The autograd graph of a backbone, and what crosses a cut in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node

from .boundary import Boundary
from .structure import Path
from .tracing import Argument, Trace

# Autograd nodes of layers that hold a weight matrix.
WEIGHT_NODES = ('Conv', 'Addmm', 'Mm', 'Linear')


class NoCut(Exception):
    """Why a backbone cannot be cut somewhere."""


@dataclass(frozen=True)
class Crossing:
    """What crosses the cut before a submodule.

    Attributes:
        name (str): The submodule.
        reads (tuple[Path, ...]): Which of its arguments the local head
            reads; empty for its one floating tensor.
        skips (tuple[Argument, ...]): What else goes on from the modules
            before to those behind, at the places where it is taken.
        parts (tuple[Boundary, ...]): Of what the head reads.
        complete (bool): Whether all that has been computed is before the
            cut. If not, another branch stays in memory until later losses
            train it.
    """

    name: str
    reads: tuple[Path, ...] = ()
    skips: tuple[Argument, ...] = ()
    parts: tuple[Boundary, ...] = ()
    complete: bool = True

    @property
    def joined(self) -> bool:
        """Whether a head reads something else than what goes on."""
        grid = any(part.layout == 'grid' for part in self.parts)
        return len(self.reads) > 1 or grid

    @property
    def single(self) -> bool:
        """Whether only one tensor links the network here."""
        return len(self.reads) <= 1 and not self.skips


class Graph:
    """An autograd graph with sets of nodes as bits of integers.

    Args:
        trace (Trace): Of the backbone.
    """

    def __init__(self, trace: Trace):
        self._trace = trace
        self._index: dict[Node, int] = {}
        self._nodes: list[Node] = []
        self._parents: list[int] = []
        self._sources: list[int] = []
        self._ancestors: list[int] = []
        self._depths: list[int] = []
        # Nodes that depend on the input, and on a weight.
        self._features = self._trained = 0
        for output in trace.outputs:
            self._add(output)
        self._outputs = [self._index[output] for output in trace.outputs]
        self.total_depth = max(self._depths, default=0)
        self._taken = {
            self._index[node]: argument
            for node, argument in trace.arguments.items()
            if node in self._index
        }
        # What has been taken, in the course of the forward.
        self._times: list[int] = []
        self._so_far: list[int] = [0]
        for index, argument in sorted(
            self._taken.items(), key=lambda item: item[1].begin
        ):
            self._times.append(argument.begin)
            self._so_far.append(self._so_far[-1] | 1 << index)

    def crossing(self, name: str) -> Crossing:
        """What crosses the cut before a submodule that is called once.

        The head reads the argument that all others are computed with; of
        several the ones that do not lead to another, and all tensors of a
        list if it reads one. What these depend on is before the cut. From
        there on a tensor may go on as an argument of a submodule that is
        called later. Tensors without weights behind them, as the image, go
        everywhere.

        Raises:
            NoCut: If it cannot be cut there.
        """
        reads = self._reads(name)
        before = cuts = 0
        for index in reads.values():
            before |= self._ancestors[index]
            cuts |= 1 << index
        after = 0
        for output in self._outputs:
            if self._below(output) & cuts:
                after |= self._below(output)
        after &= ~(before | cuts)
        begin = self._trace.begins[name]
        old, skips, untrained = before & self._trained, [], 0
        for index in _bits(after):
            parents = self._parents[index]
            if not parents & old:
                continue
            argument = self._taken.get(index)
            if argument is not None and argument.begin >= begin:
                skips.append(argument)
                continue
            others = parents & ~old & self._trained
            if others & self._features:
                raise NoCut(
                    'a path goes around it (it lies inside a residual or '
                    'other branch, or a weight is used on both sides)'
                )
            untrained |= others
            old |= 1 << index
        if untrained:
            raise NoCut(self._untrained(untrained))
        skips.sort(key=lambda argument: argument.begin)
        earlier = self._so_far[bisect_left(self._times, begin)]
        alive = after & earlier & self._trained & ~old
        return Crossing(name, tuple(reads), tuple(skips), complete=not alive)

    def depth(self, crossing: Crossing) -> int:
        """Weight layers on the longest path up to a cut."""
        return max(self._depths[i] for i in self._read_nodes(crossing))

    def weights(self, crossing: Crossing) -> Iterator[Tensor]:
        """Leaves that come before a cut."""
        before = 0
        for index in self._read_nodes(crossing):
            before |= self._ancestors[index]
        for index in _bits(before):
            if hasattr(self._nodes[index], 'variable'):
                yield self._nodes[index].variable

    def place(self, crossing: Crossing) -> tuple[int, ...]:
        """The nodes that computed what crosses as a feature."""
        nodes = self._read_nodes(crossing)
        return tuple(sorted({self._sources[index] for index in nodes}))

    def _read_nodes(self, crossing: Crossing) -> list[int]:
        nodes = self._trace.nodes[crossing.name]
        return [self._index[nodes[path]] for path in crossing.reads]

    def _reads(self, name: str) -> dict[Path, int]:
        taken = {
            path: self._index[node]
            for path, node in self._trace.nodes[name].items()
            if node in self._index
        }
        if not taken:
            raise NoCut('no output of the backbone depends on it')
        taken = {
            path: index
            for path, index in taken.items()
            if self._features >> index & 1
        }
        if not taken:
            raise NoCut('it takes nothing that depends on the input')
        found = {
            path: index
            for path, index in taken.items()
            if not self._leads_on(path, taken)
        }
        lists = {path[:-1] for path in found if len(path) > 2}
        return {
            path: index
            for path, index in taken.items()
            if path in found or path[:-1] in lists
        }

    def leaves(self) -> set[Tensor]:
        """Weights that an output depends on, and the input."""
        found = (getattr(node, 'variable', None) for node in self._nodes)
        return {leaf for leaf in found if leaf is not None}

    def _leads_on(self, path: Path, taken: dict[Path, int]) -> bool:
        """Whether another tensor is computed from this one."""
        source, passed = self._sources[taken[path]], False
        for other, index in taken.items():
            if other == path:
                passed = True
            elif self._sources[index] == source:
                # Of the same tensor twice, the first counts.
                if not passed:
                    return True
            elif self._ancestors[index] >> source & 1:
                return True
        return False

    def _untrained(self, nodes: int) -> str:
        names = self._trace.weight_names
        found: dict[str, None] = {}
        for index in _bits(nodes):
            for weight in _bits(self._below(index)):
                leaf = getattr(self._nodes[weight], 'variable', None)
                if leaf in names:
                    found[names[leaf].rpartition('.')[0] or names[leaf]] = None
        listed = ', '.join(map(repr, found))
        return (
            f'neither its local loss nor a later one would reach {listed}, '
            'which comes before it on another branch'
        )

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
            self._append(node, [self._index[fn] for fn in parents])

    def _append(self, node: Node, parents: list[int]) -> None:
        own = len(self._nodes)
        self._index[node] = own
        self._nodes.append(node)
        mask = ancestors = 0
        for index in parents:
            mask |= 1 << index
            ancestors |= self._below(index)
        self._parents.append(mask)
        self._ancestors.append(ancestors)
        depth = max((self._depths[i] for i in parents), default=0)
        weight = node.name().startswith(WEIGHT_NODES)
        self._depths.append(depth + weight)
        leaf = getattr(node, 'variable', None)
        is_input = leaf is self._trace.input
        if is_input or ancestors & self._features:
            self._features |= 1 << own
        if (leaf is not None and not is_input) or ancestors & self._trained:
            self._trained |= 1 << own
        # Behind all the submodules that pass a tensor on to another.
        passes_on = node in self._trace.arguments
        self._sources.append(self._sources[parents[0]] if passes_on else own)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
