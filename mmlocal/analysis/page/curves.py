"""Curves before they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

DRAWN_POINTS = 400  # a curve of more points is thinned
SMOOTHING = 0.8  # weight of the past in a smoothed curve
LINE_HEIGHT = 14  # of labels, in pixels


@dataclass
class Line:
    """A curve.

    Attributes:
        name (str): For those who point at it.
        xs (list[float]): In increasing order.
        ys (list[float | None]): None, NaN and infinities interrupt it.
        css (str): Classes of colour, dash and run.
        marker (int): Shape at the points, from 0.
        label (str): At its end; '' for none.
        style (str): More of CSS.
        hollow (bool): Markers are not filled, as of a control.
        errors (list[float | None]): Standard errors; [] for none.
    """

    name: str
    xs: list[float]
    ys: list[float | None]
    css: str
    marker: int = 0
    label: str = ''
    style: str = ''
    hollow: bool = False
    errors: list[float | None] = field(default_factory=list)

    @property
    def points(self) -> list[tuple[float, float]]:
        """Those that can be drawn."""
        pairs = zip(self.xs, self.ys, strict=True)
        return [(x, y) for x, y in pairs if drawable(y)]


def drawable(value: float | None) -> bool:
    """Whether it has a place on an axis."""
    return value is not None and math.isfinite(value)


def smoothed(
    ys: Sequence[float | None], weight: float = SMOOTHING
) -> list[float | None]:
    """The running mean of y_i with weights w^(n-i), as in TensorBoard."""
    total = norm = 0.0
    means: list[float | None] = []
    for y in ys:
        if drawable(y):
            total = weight * total + (1 - weight) * y
            norm = weight * norm + (1 - weight)
        means.append(total / norm if drawable(y) else None)
    return means


def thinned(
    xs: Sequence[float], ys: Sequence[float | None], most: int = DRAWN_POINTS
) -> tuple[list[float], list[float | None]]:
    """The smallest and largest value of each stretch of a long curve."""
    if len(xs) <= most:
        return list(xs), list(ys)
    size = -(-2 * len(xs) // most)
    keep: set[int] = {0, len(xs) - 1}
    for begin in range(0, len(xs), size):
        part = range(begin, min(begin + size, len(xs)))
        real = [index for index in part if drawable(ys[index])]
        if real:
            keep.add(min(real, key=ys.__getitem__))
            keep.add(max(real, key=ys.__getitem__))
        else:
            keep.add(begin)
    order = sorted(keep)
    return [xs[index] for index in order], [ys[index] for index in order]


def spread(places: Sequence[float], top: float, bottom: float) -> list[float]:
    """Move labels apart that would cover each other.

    Args:
        places (Sequence[float]): Where they should be, in increasing order.
        top (float): The first may not be above.
        bottom (float): The last may not be below, if all fit.
    """
    moved: list[float] = []
    for place in places:
        least = moved[-1] + LINE_HEIGHT if moved else top
        moved.append(max(place, least))
    limit = bottom
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - LINE_HEIGHT
    return moved
