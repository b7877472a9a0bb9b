"""Modules of equal depth, for any backbone."""

from __future__ import annotations

from mmlocal.models.cut_points import CutPoint, CutPoints
from mmlocal.registry import PARTITIONS


@PARTITIONS.register_module()
class EqualDepth:
    """Cuts a backbone into modules of about the same number of layers.

    Depth counts convolutions and linear layers along the longest path, so
    that shortcuts add nothing. The deepest module is as shallow as cuts
    between blocks allow; within that limit modules are filled from the last
    to the first. On CIFAR ResNets this gives InfoPro's published splits.

    Args:
        num_modules (int): K, at least 2.

    Raises:
        ValueError: If ``num_modules`` is below 2, or (when called) the
            backbone has fewer blocks.
    """

    def __init__(self, num_modules: int):
        if num_modules < 2:
            raise ValueError(
                f'boundaries.num_modules is {num_modules}: write 2 or more, '
                'or boundaries=[] for training end to end.'
            )
        self.num_modules = num_modules

    def __call__(self, points: CutPoints) -> list[str]:
        """Choose the boundaries.

        Args:
            points (CutPoints): Where the backbone can be cut.

        Returns:
            list[str]: K - 1 names in forward order.
        """
        cuts = points.blocks()
        if not cuts:
            raise ValueError(
                f'boundaries.num_modules is {self.num_modules}, but '
                f'{points.why_none()}'
            )
        if len(cuts) < self.num_modules - 1:
            raise ValueError(
                f'boundaries.num_modules is {self.num_modules}, but the '
                f'backbone has only {len(cuts)} places between blocks: '
                f'write {len(cuts) + 1} at most.'
            )
        limit = _smallest_limit(
            [cut.depth for cut in cuts], points.depth, self.num_modules
        )
        chosen: list[CutPoint] = []
        end = points.depth
        for modules_left in range(self.num_modules, 1, -1):
            cut = _last_cut(cuts, end, modules_left, limit)
            chosen.insert(0, cut)
            cuts = cuts[: cuts.index(cut)]
            end = cut.depth
        return [cut.name for cut in chosen]


def _last_cut(
    cuts: list[CutPoint], end: int, modules_left: int, limit: int
) -> CutPoint:
    """Where the last of ``modules_left`` modules, which ends at ``end``,
    begins: just deep enough for an equal share, if the limit allows."""
    depths = [cut.depth for cut in cuts]
    fitting = [
        cut
        for index, cut in enumerate(cuts)
        # A block must stay for each module before, and fit the limit.
        if index >= modules_left - 2
        and end - cut.depth <= limit
        and _modules_needed([0, *depths[: index + 1]], limit) < modules_left
    ]
    equal_share = [
        cut for cut in fitting if (end - cut.depth) * modules_left >= end
    ]
    return equal_share[-1] if equal_share else fitting[0]


def _smallest_limit(depths: list[int], total: int, num_modules: int) -> int:
    """The least possible depth of the deepest module."""
    places = [0, *depths, total]
    limits = sorted(
        {b - a for i, a in enumerate(places) for b in places[i + 1 :]}
    )
    return next(
        limit
        for limit in limits
        if _modules_needed(places, limit) <= num_modules
    )


def _modules_needed(places: list[int], limit: int) -> float:
    count, start = 1, places[0]
    for previous, place in zip(places, places[1:], strict=False):
        if place - previous > limit:
            return float('inf')
        if place - start > limit:
            count, start = count + 1, previous
    return count
