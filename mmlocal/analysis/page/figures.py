"""Curves over time of what trainings logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from .blocks import TABLE_ROWS, Figure, legend, panels, table
from .chart import Chart
from .curves import Line
from .facts import LOCAL, READ_OUT
from .marks import run_css
from .runs import Point, Run
from .scales import column, number

EMPTY = '<p class="empty">No finite value.</p>'
# Told in figures of their own, or of no module's learning.
NOT_CURVES = ('time', 'data_time', 'memory', 'loss', 'lr')


class Axis(NamedTuple):
    """What x counts, the same in all figures over time.

    Attributes:
        name (str): 'epoch' or 'iteration', as of :class:`Point`.
        end (float): The axis goes from 0 to here.
    """

    name: str
    end: float


def axis_of(runs: Sequence[Run]) -> Axis:
    """Epochs, if all runs count them."""
    epochs = all(run.counts_epochs for run in runs)
    name = 'epoch' if epochs else 'iteration'
    points = (point for run in runs for point in [*run.train, *run.val])
    return Axis(name, max(getattr(point, name) for point in points))


def training_figures(runs: Sequence[Run], axis: Axis) -> Iterator[Figure]:
    """Loss, learning rate and what else is logged of the whole model."""
    keys = keys_of(runs, 'train')
    whole = [k for k in keys if not LOCAL.fullmatch(k) and k not in NOT_CURVES]
    for key in [k for k in ('loss', 'lr') if k in keys] + whole:
        is_loss = 'loss' in key
        title, note = key, ''
        if key == 'loss':
            title = 'Loss of the model’s own heads'
            note = (
                'Of the last module; where modules train one after another, '
                'of the one that trains.'
            )
        elif key == 'lr':
            title = 'Learning rate'
        yield curves(
            runs, key, 'train', axis, title, note, is_loss, key != 'lr'
        )


def validation_figures(runs: Sequence[Run], axis: Axis) -> Iterator[Figure]:
    """The model's own metrics."""
    for key in keys_of(runs, 'val'):
        if key not in NOT_CURVES and not READ_OUT.fullmatch(key):
            yield curves(runs, key, 'val', axis, key, '', 'loss' in key)


def local_figures(runs: Sequence[Run], axis: Axis) -> Iterator[Figure]:
    """What local heads log, a panel a module."""
    found = [m for k in keys_of(runs, 'train') if (m := LOCAL.fullmatch(k))]
    names = dict.fromkeys(match[2] for match in found)
    for name in sorted(names, key=lambda name: 'loss' not in name):
        modules = sorted({int(m[1]) for m in found if m[2] == name})
        keys = {index: f'local_{index}.{name}' for index in modules}
        title, note = f'{name} by module', ''
        is_loss = 'loss' in name
        if len(modules) == 1:
            title = f'{name} of module {modules[0] + 1}'
            key = keys[modules[0]]
            yield curves(runs, key, 'train', axis, title, note, is_loss, True)
            continue
        parts = [
            (
                f'module {index + 1}',
                [*run_lines(runs, key, 'train', axis)],
                '',
            )
            for index, key in keys.items()
        ]
        yield panel_figure(title, note, parts, axis, is_loss, True, True)


def curves(
    runs: Sequence[Run],
    key: str,
    which: str,
    axis: Axis,
    title: str,
    note: str = '',
    log: bool = False,
    smooth: bool = False,
) -> Figure:
    """One value over time, a curve a run."""
    lines = run_lines(runs, key, which, axis)
    without = [
        run.label
        for run in runs
        if not any(key in p.values for p in getattr(run, which))
    ]
    missing = f'Not in the log of {", ".join(without)}.' if without else ''
    note = f'{note} {missing}'.strip()
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Figure(title, EMPTY, note)
    chart = Chart(
        drawn,
        describe(title, drawn, axis.name),
        axis.name,
        log=log,
        smooth=smooth,
        x_range=(0, axis.end),
    )
    return Figure(title, chart.svg(), note, line_table(lines, axis.name))


def panel_figure(
    title: str,
    note: str,
    parts: Sequence[tuple[str, list[Line], str]],
    axis: Axis,
    log: bool = False,
    smooth: bool = False,
    of_runs: bool = False,
) -> Figure:
    """Panels with common axes.

    Args:
        title (str): Of all.
        note (str): What is seen; '' for nothing.
        parts (Sequence[tuple[str, list[Line], str]]): Of each panel its
            title, curves and classes.
        axis (Axis): What x is.
        log (bool): As of :class:`Chart`. Defaults to False.
        smooth (bool): As of :class:`Chart`. Defaults to False.
        of_runs (bool): Curves are runs: a legend names them, instead of
            labels in each panel. Defaults to False.
    """
    lines = [line for _, of_panel, _ in parts for line in of_panel]
    values = [y for line in lines for _, y in line.points]
    if not values:
        return Figure(title, EMPTY, note)
    drawn = []
    for name, of_panel, css in parts:
        if not any(line.points for line in of_panel):
            continue
        chart = Chart(
            [
                replace(line, label='') if of_runs else line
                for line in of_panel
                if line.points
            ],
            describe(f'{title}, {name}', of_panel, axis.name),
            axis.name,
            log=log,
            smooth=smooth,
            small=True,
            x_range=(0, axis.end),
            y_values=values,
        )
        drawn.append((name, chart.svg(), css))
    tables = ''.join(
        line_table(of_panel, axis.name, name)
        for name, of_panel, _ in parts
        if of_panel
    )
    body = panels(drawn)
    if of_runs:
        named = {line.marker: line.label for line in lines}
        body = legend(dict(sorted(named.items()))) + body
    return Figure(title, body, note, tables, wide=len(drawn) > 2)


def keys_of(runs: Sequence[Run], which: str) -> list[str]:
    """What runs log in training or validation ('train', 'val')."""
    points = (point for run in runs for point in getattr(run, which))
    return list(dict.fromkeys(key for p in points for key in p.values))


def run_lines(
    runs: Sequence[Run], key: str, which: str, axis: Axis
) -> list[Line]:
    """A curve for each run that logs a value."""
    lines = []
    for index, run in enumerate(runs):
        points = series(run, key, which, axis)
        if points:
            xs, ys = map(list, zip(*points, strict=True))
            lines.append(
                Line(run.label, xs, ys, run_css(index), index, run.label)
            )
    return lines


def series(
    run: Run, key: str, which: str, axis: Axis
) -> list[tuple[float, float]]:
    """A value over time.

    Args:
        run (Run): Of which training.
        key (str): As in the log.
        which (str): 'train' or 'val'.
        axis (Axis): What x is.
    """
    points: list[Point] = getattr(run, which)
    return [
        (getattr(p, axis.name), p.values[key])
        for p in points
        if key in p.values
    ]


def describe(title: str, lines: Sequence[Line], x_label: str) -> str:
    """A figure in words."""
    ends = [
        f'{line.name}: {number(line.points[0][1])} to '
        f'{number(line.points[-1][1])}'
        for line in lines
        if line.points
    ]
    return f'{title} over {x_label}. {"; ".join(ends)}.'


def line_table(lines: Sequence[Line], x_label: str, caption: str = '') -> str:
    """The numbers of curves, a row for each x."""
    columns = [dict(zip(line.xs, line.ys, strict=True)) for line in lines]
    places = sorted({x for one in columns for x in one})
    every = -(-len(places) // TABLE_ROWS)
    # Counted from the end, which matters most.
    shown = places[::-1][:: max(every, 1)][::-1]
    texts = [column([one.get(x) for x in shown]) for one in columns]
    rows = [
        [number(x), *(text[index] for text in texts)]
        for index, x in enumerate(shown)
    ]
    note = ''
    if len(shown) < len(places):
        note = (
            f'<p>{len(shown)} of {len(places)} rows; all are in '
            'vis_data/scalars.json.</p>'
        )
    headers = [x_label, *(line.name for line in lines)]
    return table(headers, rows, caption=caption) + note
