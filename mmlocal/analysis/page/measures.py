"""Measurements of modules that stand in a run's ``measures.json``.

A measure is a dict of names, each with one number a module or a matrix of two
modules. Nothing here knows which measures there are; of the names, three
endings say how one belongs to another: ``x_shuffled`` is the control of ``x``,
``x_sem`` its standard error, ``x_shuffled_sem`` that of the control.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .blocks import Figure, panels, table
from .curves import Line, drawable
from .depth import by_depth, depth_chart, depth_label
from .figures import Axis, panel_figure
from .marks import module_style, run_css
from .pictograms import heat_map
from .runs import Run
from .scales import column, number

FILE = 'measures.json'
VERSION = 1
CONTROL, ERROR = '_shuffled', '_sem'
NOTES = {
    'probe': 'Linear classifiers on the frozen features of each module.',
    'nhsic': (
        'Dependence of a module’s features on the image (x) and on the label '
        '(y), normalized HSIC.'
    ),
    'cka': 'Likeness of the features of two modules, 1 if one is a rotated '
    'and scaled copy of the other.',
}

Values = list[Any]  # numbers and None, or a list of such lists


@dataclass
class Entry:
    """What was measured of one checkpoint.

    Attributes:
        epoch (float, optional): When.
        iteration (int, optional): When.
        modules (list[str]): Names.
        measures (dict[str, dict[str, Values]]): By measure and name.
    """

    epoch: float | None
    iteration: int | None
    modules: list[str]
    measures: dict[str, dict[str, Values]]

    @property
    def when(self) -> str:
        """In words."""
        if self.epoch is not None:
            return f'epoch {number(self.epoch)}'
        if self.iteration is not None:
            return f'iteration {self.iteration}'
        return 'no time'


def read_measures(run: Run) -> list[Entry]:
    """Read what was measured of a run, in order of time.

    What cannot be read becomes a note of the run.

    Args:
        run (Run): With a ``measures.json`` in its work dir, or without.
    """
    path = run.path / FILE
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if content['version'] != VERSION:
            raise ValueError(f'version {content["version"]}, not {VERSION}')
        entries = [_entry(part) for part in content['entries']]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f'{type(error).__name__}: {error}'
        run.notes.append(f'{FILE} cannot be read ({reason}): it is left out.')
        return []
    left_out = {
        f'{measure}.{name}': None
        for part in content['entries']
        for measure, names in part['measures'].items()
        for name, values in names.items()
        if not _is_drawn(values)
    }
    if left_out:
        run.notes.append(
            f'{FILE}: {", ".join(left_out)} is left out, which is neither a '
            'list of numbers nor a matrix.'
        )
    entries.sort(key=lambda e: (e.epoch or 0, e.iteration or 0))
    return entries


def measure_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """Curves of lists, by module and by time; heat maps of matrices."""
    entries = [read_measures(run) for run in runs]
    pairs = dict.fromkeys(
        (measure, name)
        for of_run in entries
        for entry in of_run
        for measure, values in entry.measures.items()
        for name in values
    )
    for measure in dict.fromkeys(measure for measure, _ in pairs):
        names = [name for other, name in pairs if other == measure]
        names = [n for n in names if not _belongs(n, measure, pairs)]
        over_time = []
        for name in names:
            latest = [_latest(of_run, measure, name) for of_run in entries]
            found = next(pair[1] for pair in latest if pair)
            if isinstance(found[0], list):
                yield _matrix_figure(runs, latest, measure, name)
            else:
                yield _list_figure(runs, latest, measure, name)
                over_time.append(name)
        for name in over_time:  # below: curves by depth stand in pairs
            if any(len(of_run) > 1 for of_run in entries):
                yield _time_figure(runs, entries, measure, name)


def _entry(part: Mapping[str, Any]) -> Entry:
    measures = {
        measure: {
            name: values for name, values in names.items() if _is_drawn(values)
        }
        for measure, names in part['measures'].items()
    }
    modules = list(map(str, part['modules']))
    return Entry(part.get('epoch'), part.get('iter'), modules, measures)


def _is_drawn(values: Any) -> bool:
    """Whether it is a list of numbers, or a matrix."""
    if not isinstance(values, list) or not values:
        return False
    if all(isinstance(row, list) for row in values):
        equal = len({len(row) for row in values}) == 1 and values[0]
        return bool(equal) and all(map(_are_numbers, values))
    return _are_numbers(values)


def _are_numbers(values: list) -> bool:
    return all(
        value is None or isinstance(value, (int, float)) for value in values
    )


def _latest(
    entries: Sequence[Entry], measure: str, name: str
) -> tuple[Entry, Values] | None:
    for entry in reversed(entries):
        values = entry.measures.get(measure, {}).get(name)
        if values:
            return entry, values
    return None


def _belongs(name: str, measure: str, pairs: Mapping) -> bool:
    """Whether it is drawn in the figure of another name."""
    return any(
        name.endswith(ending) and (measure, name.removesuffix(ending)) in pairs
        for ending in (CONTROL, ERROR, CONTROL + ERROR)
    )


def _list_figure(
    runs: Sequence[Run],
    latest: Sequence[tuple[Entry, Values] | None],
    measure: str,
    name: str,
) -> Figure:
    counts = [len(pair[1]) for pair in latest if pair]
    places, ticks = by_depth(counts)
    lines, rows = [], []
    for index, (run, pair) in enumerate(zip(runs, latest, strict=True)):
        if pair is None:
            continue
        entry, values = pair
        names = entry.measures[measure]
        css, xs = run_css(index), places[len(values)]
        errors = names.get(name + ERROR, [])
        lines.append(
            Line(run.label, xs, values, css, index, run.label, errors=errors)
        )
        rows.append([run.label, entry.when, *column(values)])
        if errors:
            rows.append([f'{run.label}, standard error', '', *column(errors)])
        control = names.get(name + CONTROL)
        if control:
            label = f'{run.label}, shuffled'
            errors = names.get(name + CONTROL + ERROR, [])
            lines.append(
                Line(
                    label,
                    xs,
                    control,
                    f'{css} control',
                    index,
                    hollow=True,
                    errors=errors,
                )
            )
            rows.append([label, '', *column(control)])
    title, note = f'{measure}: {name}', NOTES.get(measure, '')
    if any('control' in line.css for line in lines):
        note += ' Hollow: the control with shuffled pairs.'
    whens = {pair[0].when for pair in latest if pair}
    when = whens.pop() if len(whens) == 1 else 'the last of each'
    label = depth_label(counts)
    most = max(counts)
    numbers = table(
        ['', 'at', *(f'module {i + 1}' for i in range(most))],
        [row + [''] * (most + 2 - len(row)) for row in rows],
    )
    return Figure(
        f'{title}, by depth ({when})',
        depth_chart(lines, title, label, ticks),
        note.strip(),
        numbers,
    )


def _time_figure(
    runs: Sequence[Run],
    entries: Sequence[Sequence[Entry]],
    measure: str,
    name: str,
) -> Figure:
    timed = [entry for of_run in entries for entry in of_run]
    in_epochs = all(entry.epoch is not None for entry in timed)
    times = [entry.epoch if in_epochs else entry.iteration for entry in timed]
    end = max((time for time in times if time is not None), default=0)
    parts = []
    for index, run in enumerate(runs):
        rows = [
            (entry.epoch if in_epochs else entry.iteration, values)
            for entry in entries[index]
            if (values := entry.measures.get(measure, {}).get(name))
        ]
        rows = [row for row in rows if row[0] is not None]
        count = max((len(values) for _, values in rows), default=0)
        lines = [
            Line(
                f'module {module + 1}',
                [x for x, _ in rows],
                [
                    values[module] if module < len(values) else None
                    for _, values in rows
                ],
                'mod',
                module,
                str(module + 1),
                module_style(module, count),
            )
            for module in range(count)
        ]
        if any(line.points for line in lines):
            parts.append((run.label, lines, f'run{index}'))
    return panel_figure(
        f'{measure}: {name} of each module',
        'A number is a module, counted from 1.',
        parts,
        Axis('epoch' if in_epochs else 'iteration', end),
    )


def _matrix_figure(
    runs: Sequence[Run],
    latest: Sequence[tuple[Entry, Values] | None],
    measure: str,
    name: str,
) -> Figure:
    found = [(index, *pair) for index, pair in enumerate(latest) if pair]
    values = [
        value
        for _, _, matrix in found
        for row in matrix
        for value in row
        if drawable(value)
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0 and high <= 1 + 1e-6:  # as rounding leaves it
        low, high = 0.0, 1.0
    parts, tables = [], []
    for index, entry, matrix in found:
        title = f'{runs[index].label}, {entry.when}'
        about = f'{measure}: {name} of {title}, {len(matrix)} rows'
        parts.append(
            (title, heat_map(matrix, (low, high), about), f'run{index}')
        )
        rows = [
            [f'module {i + 1}', *map(number, row)]
            for i, row in enumerate(matrix)
        ]
        headers = ['', *(f'module {i + 1}' for i in range(len(matrix[0])))]
        tables.append(table(headers, rows, caption=title))
    scale = f'<p class="ramp">{number(low)}<span></span>{number(high)}</p>'
    return Figure(
        f'{measure}: {name}',
        panels(parts) + scale,
        NOTES.get(measure, ''),
        ''.join(tables),
        wide=True,
    )
