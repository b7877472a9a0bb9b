"""Curves as SVG, complete without a script.

A chart that offers a logarithmic axis or smoothed curves holds both ways of
drawing; two check boxes of the page choose, by style sheet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .curves import Line, drawable, smoothed, spread, thinned
from .marks import MARKS
from .scales import Scale, padded, tick_labels

CHAR = 6.7  # width of a letter, in pixels, at 12 pixels
MARKED_POINTS = 30  # a curve of more points has no markers
LABEL_LETTERS = 18


@dataclass
class Chart:
    """Curves over one x axis.

    Attributes:
        lines (list[Line]): At least one has a point.
        about (str): What is read to those who do not see it.
        x_label (str): What x counts.
        x_names (dict[float, str]): Ticks; by default round numbers.
        log (bool): Offer a logarithmic y axis. Defaults to False.
        smooth (bool): Offer smoothed curves. Defaults to False.
        small (bool): One of many beside each other. Defaults to False.
        x_range (tuple[float, float], optional): Shared with others.
        y_values (list[float]): Of others that share the y axis.
    """

    lines: list[Line]
    about: str
    x_label: str
    x_names: dict[float, str] = field(default_factory=dict)
    log: bool = False
    smooth: bool = False
    small: bool = False
    x_range: tuple[float, float] | None = None
    y_values: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        values = [*_drawn_values(self.lines), *self.y_values]
        positive = [value for value in values if value > 0]
        self.log = self.log and bool(positive)
        self.width, self.height = (210, 165) if self.small else (460, 280)
        self.top, self.bottom = 12, self.height - 36
        self._y_count = 5 if self.small else 6
        self._ys = {'lin': Scale(*padded(values), self.bottom, self.top)}
        if self.log:
            low, high = padded(positive, log=True)
            self._ys['log'] = Scale(low, high, self.bottom, self.top, True)
        letters = max(
            len(text)
            for scale in self._ys.values()
            for text in tick_labels(scale.ticks(self._y_count)) or ['']
        )
        labels = max(len(shortened(line.label)) for line in self.lines)
        self.left = 14 + round(letters * CHAR)
        self.right = self.width - (28 + round(labels * CHAR) if labels else 14)
        xs = [x for line in self.lines for x, _ in line.points]
        low, high = self.x_range or (min(xs), max(xs))
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        self._x = Scale(low, high, self.left, self.right)

    def svg(self) -> str:
        """The picture, and what a script needs to read values from it."""
        variants = [
            f'<g class="{kind}{" either" if self.log else ""}">'
            f'{"".join(self._variant(scale))}</g>'
            for kind, scale in self._ys.items()
        ]
        data = json.dumps(self._data(), separators=(',', ':'))
        return (
            f'<div class="plot"><svg viewBox="0 0 {self.width} {self.height}" '
            f'role="img" aria-label="{escape(self.about)}">'
            f'{"".join(self._x_axis())}{"".join(variants)}</svg>'
            '<script type="application/json">'
            f'{data.replace("<", chr(92) + "u003c")}</script></div>'
        )

    def _x_axis(self) -> Iterator[str]:
        base = self.bottom + 16
        for x, text in self._x_ticks():
            place = f'{self._x(x):.1f}'
            yield (
                f'<path class="tick" d="M{place} {self.bottom}v4"/>'
                f'<text class="t" x="{place}" y="{base}" '
                f'text-anchor="middle">{escape(text)}</text>'
            )
        middle = (self.left + self.right) / 2
        yield (
            f'<text class="t" x="{middle:.1f}" y="{self.height - 4}" '
            f'text-anchor="middle">{escape(self.x_label)}</text>'
        )

    def _x_ticks(self) -> list[tuple[float, str]]:
        """As many as stand beside each other."""
        span = self.right - self.left
        if self.x_names:
            ticks = [
                (x, name)
                for x, name in sorted(self.x_names.items())
                if self._x.low <= x <= self._x.high
            ]
            widest = max((len(name) for _, name in ticks), default=0)
            widest = widest * CHAR + 12
            gap = span / max(len(ticks) - 1, 1)
            every = max(1, math.ceil(widest / gap))
            # Counted from the end: the last one says how many there are.
            return ticks[::-1][::every][::-1]
        for count in range(8, 0, -1):
            ticks = self._x.ticks(count)
            if self._x.high - self._x.low >= 2:  # epochs and iterations
                ticks = [tick for tick in ticks if tick == int(tick)]
            labels = tick_labels(ticks)
            widest = max((len(text) for text in labels), default=0) * CHAR
            if len(ticks) < 2 or span / len(ticks) > widest + 14:
                return list(zip(ticks, labels, strict=True))
        return []

    def _variant(self, y: Scale) -> Iterator[str]:
        ticks = y.ticks(self._y_count)
        for tick, text in zip(ticks, tick_labels(ticks), strict=True):
            place = f'{y(tick):.1f}'
            yield (
                f'<path class="grid" d="M{self.left} {place}H{self.right}"/>'
                f'<text class="t" x="{self.left - 7}" y="{place}" dy=".33em" '
                f'text-anchor="end">{text}</text>'
            )
        base = f'M{self.left} {self.bottom}H{self.right}'
        yield f'<path class="axis" d="{base}"/>'
        for line in self.lines:
            yield from self._line(line, y)
        yield from self._labels(y)

    def _line(self, line: Line, y: Scale) -> Iterator[str]:
        thin = thinned(line.xs, line.ys)
        style = f' style="{line.style}"' if line.style else ''
        yield f'<g class="{line.css}"{style}>'
        raw = 'line raw' if self.smooth else 'line'
        yield f'<path class="{raw}" d="{self._path(*thin, y)}"/>'
        if self.smooth:
            smooth = thinned(line.xs, smoothed(line.ys))
            yield f'<path class="line smooth" d="{self._path(*smooth, y)}"/>'
        if line.errors:
            yield f'<path class="error" d="{self._errors(line, y)}"/>'
        shape = MARKS[line.marker % len(MARKS)]
        marks = ''.join(shape(px, py) for px, py in self._marked(line, y))
        if marks:
            kind = 'mark hollow' if line.hollow else 'mark'
            yield f'<path class="{kind}" d="{marks}"/>'
        yield '</g>'

    def _path(self, xs: list[float], ys: list[Any], y: Scale) -> str:
        steps, pen = [], 'M'
        for px, py in self._pixels(xs, ys, y):
            if py is None:
                pen = 'M'
                continue
            steps.append(f'{pen}{px:.1f} {py:.1f}')
            pen = 'L'
        return ''.join(steps)

    def _pixels(
        self, xs: list[float], ys: list[Any], y: Scale
    ) -> Iterator[tuple[float, float | None]]:
        for x, value in zip(xs, ys, strict=True):
            fits = drawable(value) and (not y.log or value > 0)
            yield self._x(x), y(value) if fits else None

    def _marked(self, line: Line, y: Scale) -> Iterator[tuple[float, float]]:
        """Each point of a short curve; of a long one, those that stand alone
        and would not be seen."""
        pixels = list(self._pixels(line.xs, line.ys, y))
        short = len(line.points) <= MARKED_POINTS
        for index, (px, py) in enumerate(pixels):
            beside = pixels[max(0, index - 1) : index + 2]
            alone = sum(other is not None for _, other in beside) == 1
            if py is not None and (short or alone):
                yield px, py

    def _errors(self, line: Line, y: Scale) -> str:
        steps = []
        for x, value, error in zip(line.xs, line.ys, line.errors, strict=True):
            if drawable(value) and drawable(error):
                px, low, high = self._x(x), value - error, value + error
                low, high = max(low, y.low), min(high, y.high)
                steps.append(f'M{px:.1f} {y(low):.1f}V{y(high):.1f}')
        return ''.join(steps)

    def _labels(self, y: Scale) -> Iterator[str]:
        ends = []
        for line in self.lines:
            points = [p for p in line.points if not y.log or p[1] > 0]
            if line.label and points:
                ends.append((y(points[-1][1]), self._x(points[-1][0]), line))
        ends.sort(key=lambda end: end[0])
        places = spread([end[0] for end in ends], self.top, self.bottom)
        for place, (py, px, line) in zip(places, ends, strict=True):
            style = f' style="{line.style}"' if line.style else ''
            yield (
                f'<g class="{line.css}"{style}><path class="lead" '
                f'd="M{px + 5:.1f} {py:.1f}L{self.right + 6} {place:.1f}"/>'
                f'<path class="line" d="M{self.right + 8} {place:.1f}h11"/>'
                f'<text class="l" x="{self.right + 23}" y="{place:.1f}" '
                f'dy=".33em">{escape(shortened(line.label))}</text></g>'
            )

    def _data(self) -> dict[str, Any]:
        lines = []
        for line in self.lines:
            xs, ys = thinned(line.xs, line.ys)
            lines.append(
                {
                    'name': line.name,
                    'css': line.css,
                    'style': line.style,
                    'x': [_digits(x) for x in xs],
                    'y': [_digits(y) if drawable(y) else None for y in ys],
                }
            )
        return {
            'xLabel': self.x_label,
            'xNames': [[x, name] for x, name in self.x_names.items()],
            'x': [self._x.low, self._x.high, self.left, self.right],
            'y': {
                kind: [scale.low, scale.high, self.bottom, self.top]
                for kind, scale in self._ys.items()
            },
            'lines': lines,
        }


def shortened(label: str) -> str:
    """As long as there is room for in a figure."""
    if len(label) <= LABEL_LETTERS:
        return label
    return label[: LABEL_LETTERS - 1].rstrip() + '…'


def _drawn_values(lines: Sequence[Line]) -> Iterator[float]:
    for line in lines:
        errors = line.errors or [0.0] * len(line.ys)
        for y, error in zip(line.ys, errors, strict=True):
            if drawable(y):
                margin = error if drawable(error) else 0.0
                yield y - margin
                yield y + margin


def _digits(value: float) -> float:
    return float(f'{value:.6g}')
