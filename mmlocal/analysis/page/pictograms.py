"""Bars and heat maps as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .chart import CHAR, shortened
from .curves import drawable
from .scales import number

NUMBERED_CELLS = 8  # a heat map of more columns has colours alone


@dataclass
class Bar:
    """A value of a run, with what is said behind it."""

    label: str
    value: float
    text: str
    css: str
    span: tuple[float, float] | None = None


def bars(rows: Sequence[Bar], about: str) -> str:
    """Horizontal bars from zero, with a whisker over the span."""
    labels = max(len(shortened(row.label)) for row in rows)
    texts = max(len(row.text) for row in rows)
    left, row_height = 10 + round(labels * CHAR), 30
    width, height = 460, row_height * len(rows) + 6
    room = width - left - round(texts * CHAR) - 16
    largest = max(max(row.value, *(row.span or (0,))) for row in rows) or 1.0
    parts = []
    for index, row in enumerate(rows):
        middle = 3 + row_height * (index + 0.5)
        end = left + room * row.value / largest
        whisker = end
        parts.append(
            f'<g class="{row.css}"><text class="l" x="{left - 8}" '
            f'y="{middle}" dy=".33em" text-anchor="end">'
            f'{escape(shortened(row.label))}</text><rect class="bar" '
            f'x="{left}" y="{middle - 8}" width="{max(end - left, 1):.1f}" '
            'height="16" rx="2"/>'
        )
        if row.span:
            low, whisker = (left + room * v / largest for v in row.span)
            parts.append(
                f'<path class="whisker" d="M{low:.1f} {middle}H{whisker:.1f}'
                f'M{low:.1f} {middle - 4}v8M{whisker:.1f} {middle - 4}v8"/>'
            )
        parts.append(
            f'<text class="l" x="{max(end, whisker) + 8:.1f}" y="{middle}" '
            f'dy=".33em">{escape(row.text)}</text></g>'
        )
    return (
        f'<div class="plot"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(about)}">{"".join(parts)}</svg></div>'
    )


def heat_map(
    matrix: Sequence[Sequence[float | None]],
    span: tuple[float, float],
    about: str,
) -> str:
    """A matrix as colours, rows from above; a cell says its value.

    Args:
        matrix (Sequence[Sequence[float | None]]): Rows of equal length.
        span (tuple[float, float]): Values of the lightest and the darkest
            colour.
        about (str): What is read to those who do not see it.
    """
    rows, columns = len(matrix), len(matrix[0])
    cell = 182 / max(rows, columns)
    low, high = span
    parts = []
    for index in range(max(rows, columns)):
        middle = 26 + cell * (index + 0.5)
        if index < columns:
            parts.append(
                f'<text class="t" x="{middle:.1f}" y="18" '
                f'text-anchor="middle">{index + 1}</text>'
            )
        if index < rows:
            parts.append(
                f'<text class="t" x="20" y="{middle:.1f}" dy=".33em" '
                f'text-anchor="end">{index + 1}</text>'
            )
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            x, y = 26 + cell * j, 26 + cell * i
            share = 0.0
            if drawable(value) and high > low:
                share = min(1.0, (value - low) / (high - low))
            kind = 'cell' if drawable(value) else 'cell missing'
            title = f'row {i + 1}, column {j + 1}: {number(value) or "none"}'
            parts.append(
                f'<rect class="{kind}" style="--t:{100 * share:.0f}%" '
                f'x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" '
                f'height="{cell - 1:.1f}"><title>{title}</title></rect>'
            )
            if max(rows, columns) <= NUMBERED_CELLS and drawable(value):
                dark = 'in on' if share > 0.5 else 'in'
                parts.append(
                    f'<text class="{dark}" x="{x + cell / 2:.1f}" '
                    f'y="{y + cell / 2:.1f}" dy=".33em" text-anchor="middle">'
                    f'{value:.2g}</text>'
                )
    return (
        '<div class="plot"><svg viewBox="0 0 210 210" role="img" '
        f'aria-label="{escape(about)}">{"".join(parts)}</svg></div>'
    )
