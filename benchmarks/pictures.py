"""Pictures of benchmarks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLORS = ('#444444', '#4477aa', '#228833', '#ee6677', '#aa3377', '#ccbb44')
MARKERS = 'os^Dv'
# Where a label may stand, as (x, y) in points and alignment.
PLACES = (
    (8, 0, 'left', 'center'),
    (0, 8, 'center', 'bottom'),
    (0, -8, 'center', 'top'),
    (-8, 0, 'right', 'center'),
    (7, 7, 'left', 'bottom'),
    (7, -7, 'left', 'top'),
    (-7, 7, 'right', 'bottom'),
    (-7, -7, 'right', 'top'),
    (14, 14, 'left', 'bottom'),
    (14, -14, 'left', 'top'),
)


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes:
        family (str): Points of a family share a colour and are linked.
        variant (str): Points of a variant share a marker; may be empty.
        time (float): Along x.
        memory (float): Along y.
        predicted (float): What ``memory`` was predicted to be.
    """

    family: str
    variant: str
    time: float
    memory: float
    predicted: float


def draw(
    path: Path, points: Iterable[Point], xlabel: str, ylabel: str
) -> None:
    """Memory against time, a labelled point a method."""
    from matplotlib.figure import Figure

    points = list(points)
    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.add_subplot()
    families = list(dict.fromkeys(point.family for point in points))
    variants = list(dict.fromkeys(point.variant for point in points))
    colors = dict(zip(families, COLORS * len(families), strict=False))
    for family, color in colors.items():
        group = [point for point in points if point.family == family]
        group.sort(key=lambda point: point.time)
        axes.plot(
            [point.time for point in group],
            [point.memory for point in group],
            color=color,
            linewidth=1,
            alpha=0.4,
        )
        for point in group:
            marker = MARKERS[variants.index(point.variant) % len(MARKERS)]
            style = {'color': color, 'marker': marker, 'markersize': 7}
            axes.plot(point.time, point.memory, **style, linestyle='')
            style |= {'markerfacecolor': 'none', 'markersize': 11}
            axes.plot(
                point.time, point.predicted, **style, alpha=0.5, linestyle=''
            )
    for name, fill in (('measured', 'full'), ('predicted', 'none')):
        axes.plot([], [], 'o', color='0.3', fillstyle=fill, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.margins(x=0.12, y=0.1)
    axes.set_ylim(bottom=0)
    axes.grid(color='0.93')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(
        frameon=False, loc='lower right', bbox_to_anchor=(1, 1), ncols=2
    )
    _place_labels(figure, axes, points, colors)
    figure.savefig(path, dpi=150)


def _place_labels(
    figure: Any, axes: Any, points: list[Point], colors: dict[str, str]
) -> None:
    """Where they touch no other label and no point, if there is room."""
    figure.draw_without_rendering()
    taken = [
        _box_around(*axes.transData.transform((point.time, height)))
        for point in points
        for height in (point.memory, point.predicted)
    ]
    for point in points:
        for place in (*PLACES, PLACES[0]):
            label = _label(axes, point, colors[point.family], *place)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
            label.set_visible(False)
        label.set_visible(True)
        taken.append(box)


def _label(
    axes: Any,
    point: Point,
    color: str,
    x: float,
    y: float,
    horizontal: str,
    vertical: str,
) -> Any:
    return axes.annotate(
        ', '.join(filter(None, (point.family, point.variant))),
        (point.time, point.memory),
        xytext=(x, y),
        textcoords='offset points',
        ha=horizontal,
        va=vertical,
        fontsize=8.5,
        color=color,
    )


def _box_around(x: float, y: float, half: float = 9) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox([[x - half, y - half], [x + half, y + half]])
