"""Metrics module by module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .blocks import Figure, table
from .chart import Chart
from .curves import Line
from .facts import READ_OUT, num_modules
from .figures import EMPTY, Axis, describe, keys_of, panel_figure, series
from .marks import module_style, run_css
from .runs import Run
from .scales import column, number

# When, the value of each module, and that of each ensemble.
ReadOut = tuple[str, list[float | None], list[float | None]]


def depth_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """Metrics through the modules, at the last validation."""
    for metric in read_out_metrics(runs):
        found = [_last_read_out(run, metric) for run in runs]
        if any(len(modules) > 1 for _, modules, _ in found):
            yield _depth_figure(runs, metric, found)


def module_figures(runs: Sequence[Run], axis: Axis) -> Iterator[Figure]:
    """Metrics of each module over time."""
    for metric in read_out_metrics(runs):
        parts = []
        for index, run in enumerate(runs):
            lines = list(_module_lines(run, metric, axis))
            if any(line.points for line in lines):
                parts.append((run.label, lines, f'run{index}'))
        note = 'A number is a module, counted from 1.'
        yield panel_figure(f'{metric} of each module', note, parts, axis)


def read_out_metrics(runs: Sequence[Run]) -> list[str]:
    """Metrics that are known of single modules."""
    found = (READ_OUT.fullmatch(key) for key in keys_of(runs, 'val'))
    return list(dict.fromkeys(match[3] for match in found if match))


def by_depth(counts: Sequence[int]) -> tuple[dict[int, list[float]], dict]:
    """Where modules stand on an axis of depth.

    Args:
        counts (Sequence[int]): K of each run.

    Returns:
        tuple: The places of K modules by K, and the names of ticks: numbers
        of modules, or shares of all if runs differ in K.
    """
    if len(set(counts)) == 1:
        places = [float(index + 1) for index in range(counts[0])]
        return {counts[0]: places}, {x: f'{x:.0f}' for x in places}
    shares = {
        count: [(index + 1) / count for index in range(count)]
        for count in counts
    }
    ticks = (0.25, 0.5, 0.75, 1.0)
    return shares, {x: f'{x:.0%}' for x in ticks}


def depth_label(counts: Sequence[int]) -> str:
    """What the axis of :func:`by_depth` counts."""
    if len(set(counts)) == 1:
        return f'module of {counts[0]}'
    return 'share of the modules'


def depth_chart(
    lines: Sequence[Line], title: str, label: str, names: dict[float, str]
) -> str:
    """Curves over the axis of :func:`by_depth`."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return EMPTY
    return Chart(drawn, describe(title, drawn, label), label, names).svg()


def _module_lines(run: Run, metric: str, axis: Axis) -> Iterator[Line]:
    count = num_modules(run) or 1
    for index in range(count):
        points = series(run, f'module_{index + 1}/{metric}', 'val', axis)
        if points:
            xs, ys = map(list, zip(*points, strict=True))
            yield Line(
                f'module {index + 1}',
                xs,
                ys,
                'mod',
                index,
                str(index + 1),
                module_style(index, count),
            )


def _depth_figure(
    runs: Sequence[Run], metric: str, found: Sequence[ReadOut]
) -> Figure:
    """A curve a run through its modules."""
    counts = [len(modules) for _, modules, _ in found if len(modules) > 1]
    places, names = by_depth(counts)
    everywhere = sorted({x for xs in places.values() for x in xs})
    lines, rows = [], []
    most = max(counts)
    for index, (run, read) in enumerate(zip(runs, found, strict=True)):
        when, modules, ensembles = read
        css = run_css(index)
        if len(modules) > 1:
            xs = places[len(modules)]
            lines.append(Line(run.label, xs, modules, css, index, run.label))
            if any(value is not None for value in ensembles):
                name = f'{run.label}, ensemble'
                lines.append(
                    Line(
                        name,
                        xs,
                        ensembles,
                        f'{css} points',
                        index,
                        hollow=True,
                    )
                )
        elif modules:  # end to end: as a level to compare with
            level = modules * len(everywhere)
            lines.append(
                Line(
                    run.label,
                    everywhere,
                    level,
                    f'{css} level',
                    index,
                    run.label,
                )
            )
        for kind, values in ('', modules), (', ensemble', ensembles):
            if any(value is not None for value in values):
                cells = column(values) + [''] * (most - len(values))
                rows.append([f'{run.label}{kind}', when, *cells])
    label = depth_label(counts)
    title = f'{metric} by depth, at the last validation'
    headers = ['', 'at', *(f'module {i + 1}' for i in range(most))]
    return Figure(
        title,
        depth_chart(lines, title, label, names),
        'Hollow: the ensemble of the modules up to there. Without modules, '
        'a level.',
        table(headers, rows),
    )


def _last_read_out(run: Run, metric: str) -> ReadOut:
    """When, of each module, and of each ensemble; [] where there is none.

    A run without modules has one: the model.
    """
    count = num_modules(run) or 1
    wanted = [f'module_{i + 1}/{metric}' for i in range(count)]
    for point in reversed(run.val):
        values = point.values
        when = number(point.iteration if point.epoch is None else point.epoch)
        if any(key in values for key in wanted):
            modules = [values.get(key) for key in wanted]
            ensembles = [
                values.get(f'ensemble_{i + 1}/{metric}') for i in range(count)
            ]
            return when, modules, ensembles
        if metric in values:
            return when, [values[metric]], []
    return '', [], []
