"""A backbone as a chain of submodules, whose modules run alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from mmlocal.step import Stopped

from .calls import Calls
from .cut_forward import cut_forward
from .graph import Crossing
from .structure import map_leaves


class Chain:
    """Hands the modules of a cut backbone out as callables.

    The outermost submodules that follow one another are its links, each
    taking exactly the tensor that the last one returned; none of them holds a
    boundary. Their names are resolved at each call, since
    SyncBN conversion and the like replace modules. What lies before the first
    boundary need not be such a chain: the backbone's own forward runs there,
    and ends at the boundary.

    Args:
        backbone (nn.Module): Its outputs are what links of the last module
            return.
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
        modules = calls.links(self.boundaries)
        self.names = [[call.name for call in module] for module in modules]
        self._returned = [call.returned for call in modules[-1]]
        self._outputs = calls.outputs

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

        with suppress(Stopped):
            cut = Crossing(self.boundaries[0])
            cut_forward(self.backbone, [cut], (x,), stop)
        return found[0]

    def finish(self, feat: Tensor) -> Any:
        """The backbone's outputs, from what the last module takes in."""
        found: dict[int, Tensor] = {}
        for number, block in zip(self._returned, self.blocks(-1), strict=True):
            feat = found[number] = block(feat)
        return map_leaves(self._outputs, found.get)
