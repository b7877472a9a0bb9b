"""A backbone as a chain of submodules, whose modules run alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from mmlocal.step import Stopped

from .calls import Calls
from .cut_forward import cut_forward


class Chain:
    """Hands the modules of a cut backbone out as callables.

    The outermost submodules that follow one another are its links, each
    taking exactly the tensor that the last one returned; none of them holds a
    boundary. Their names are resolved at each call, since
    SyncBN conversion and the like replace modules. What lies before the first
    boundary need not be such a chain: the backbone's own forward runs there,
    and ends at the boundary.

    Args:
        backbone (nn.Module): Returns one tensor, alone or in a list or tuple.
        boundaries (Sequence[str]): The first submodule of each next module,
            in forward order.
        calls (Calls): Of the backbone.

    Attributes:
        names (list[list[str]]): The submodules of each module, in order;
            none for a first module that is no chain.

    Raises:
        ValueError: If the backbone is no such chain; names the gap.

    Example:
        >>> calls = Calls(resnet, (3, 224, 224))
        >>> chain = Chain(resnet, ['layer2', 'layer3'], calls)
        >>> feat = chain.run(1, chain.run(0, images))
    """

    def __init__(
        self, backbone: nn.Module, boundaries: Sequence[str], calls: Calls
    ):
        self.backbone = backbone
        self.boundaries = list(boundaries)
        self.names: list[list[str]] = [[]]
        for name, opens_module in calls.links(self.boundaries):
            if opens_module:
                self.names.append([])
            self.names[-1].append(name)
        if len(self.names) != len(self.boundaries) + 1:
            raise ValueError(calls.gap(None, 0))
        self._structure = calls.structure

    def blocks(self, index: int) -> list[nn.Module]:
        """The submodules of a module, in forward order."""
        return [self.backbone.get_submodule(n) for n in self.names[index]]

    def run(self, index: int, feat: Tensor) -> Tensor:
        """A module's output.

        Args:
            index (int): Of the module, from 0.
            feat (Tensor): What it takes in: the images, or the output of the
                module before it.
        """
        if not self.names[index]:
            return self._run_beginning(feat)
        for block in self.blocks(index):
            feat = block(feat)
        return feat

    def _run_beginning(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []

        def stop(index: int, feat: Tensor) -> Tensor:
            found.append(feat)
            raise Stopped

        first = self.backbone.get_submodule(self.boundaries[0])
        with suppress(Stopped):
            cut_forward(self.backbone, [first], x, stop)
        return found[0]

    def wrap(self, feat: Tensor) -> Any:
        """The last module's output, as the backbone returns it."""
        return _fill(self._structure, feat)


def _fill(structure: Any, feat: Tensor) -> Any:
    if structure is None:
        return feat
    return type(structure)(_fill(value, feat) for value in structure)
