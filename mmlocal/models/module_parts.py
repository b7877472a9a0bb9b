"""Which module of a cut backbone owns what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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


def assign_parts(
    cuts_behind: dict[str, int],
    order: Sequence[str],
    boundaries: Sequence[tuple[str, int]],
) -> ModuleParts:
    """Tell what each module consists of.

    Args:
        cuts_behind (dict[str, int]): Of each weight, the cut points that it
            lies before, as bits.
        order (Sequence[str]): Submodules, as the forward reaches them.
        boundaries (Sequence[tuple[str, int]]): Names and numbers of the cut
            points chosen.
    """
    weights = {
        name: _first(before >> cut & 1 for _, cut in boundaries)
        for name, before in cuts_behind.items()
    }
    owners: dict[str, set[int]] = {}
    for name, owner in weights.items():
        while name := name.rpartition('.')[0]:
            owners.setdefault(name, set()).add(owner)
    starts = [order.index(name) for name, _ in boundaries]
    submodules = {}
    for place, name in enumerate(order):
        submodules[name] = sum(start <= place for start in starts)
        # Another branch may come first and belong to a later module.
        if len(owners.get(name, ())) == 1:
            (submodules[name],) = owners[name]
    return ModuleParts(weights, submodules)


def _first(flags: Iterable[bool]) -> int:
    """Index of the first that is set; their number if none is."""
    index = -1
    for index, flag in enumerate(flags):
        if flag:
            return index
    return index + 1
