"""One HTML page of several trainings, complete in itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import median
from string import Template

from mmlocal.version import __version__

from .blocks import Figure, legend, table
from .cost import cost_figures
from .depth import depth_figures, module_figures
from .differences import differences
from .facts import READ_OUT, facts_of, progress
from .figures import (
    axis_of,
    local_figures,
    training_figures,
    validation_figures,
)
from .measures import measure_figures
from .pictures import picture_figures
from .runs import Run
from .scales import number

HERE = Path(__file__).parent
NOT_SET = '–'
OPEN_ROWS = 30  # a longer table of settings is closed at first


def make_page(runs: Sequence[Run], title: str = '', pictures: int = 2) -> str:
    """Put runs side by side.

    Args:
        runs (Sequence[Run]): At least one. What a reader should know about
            measurements and pictures is added to their notes.
        title (str): By default the labels of the runs.
        pictures (int): The most of one run. Defaults to 2.

    Returns:
        str: HTML that needs no other file.
    """
    axis = axis_of(runs)
    labels = [run.label for run in runs]
    title = title or _title(labels)
    sections = [
        _section(
            'validation',
            'Validation',
            [
                *validation_figures(runs, axis),
                *depth_figures(runs),
                *module_figures(runs, axis),
            ],
        ),
        _section('local', 'Local heads', local_figures(runs, axis)),
        _section('training', 'Training', training_figures(runs, axis)),
        _section('cost', 'Time and memory', cost_figures(runs)),
        _section('measures', 'Measurements', measure_figures(runs)),
        _section('pictures', 'Pictures', picture_figures(runs, pictures)),
    ]
    # Last, when everything that is read has left its notes.
    head = [_runs_section(runs), _settings_section(runs)]
    shown = [section for section in [*head, *sections] if section]
    return Template(_file('page.html')).substitute(
        title=escape(title),
        style=_file('page.css') + ''.join(map(_hiding, range(len(runs)))),
        boxes=''.join(map(_box, range(len(runs)), labels)),
        legend=legend(dict(enumerate(labels))),
        contents=''.join(
            f'<a href="#{name}">{heading}</a>' for name, heading, _ in shown
        ),
        sections=''.join(html for _, _, html in shown),
        version=__version__,
        script=_file('page.js'),
    )


def _title(labels: Sequence[str]) -> str:
    if len(labels) > 3:
        return f'{len(labels)} runs side by side'
    return f'{", ".join(labels[:-1])} and {labels[-1]}'.removeprefix(' and ')


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding='utf-8')


def _box(index: int, label: str) -> str:
    """What a legend switches; style sheets read it."""
    return (
        f'<input type="checkbox" class="box" id="show{index}" checked '
        f'aria-label="show {escape(label)}">'
    )


def _hiding(index: int) -> str:
    off = f'body:has(#show{index}:not(:checked))'
    return (
        f'{off} .run{index}{{display:none}}'
        f'{off} .key{index}{{opacity:.4;text-decoration:line-through}}'
        f'body:has(#show{index}:focus-visible) .toolbar .key{index}'
        '{outline:2px solid var(--focus)}'
    )


def _section(
    name: str, heading: str, figures: Iterable[Figure]
) -> tuple[str, str, str] | None:
    inner = ''.join(figure.html() for figure in figures)
    if not inner:
        return None
    return _wrapped(name, heading, f'<div class="figures">{inner}</div>')


def _wrapped(name: str, heading: str, inner: str) -> tuple[str, str, str]:
    html = f'<section id="{name}"><h2>{heading}</h2>{inner}</section>'
    return name, heading, html


def _runs_section(runs: Sequence[Run]) -> tuple[str, str, str]:
    columns = [{**facts_of(run), **_results(run)} for run in runs]
    times = [_time(run) for run in runs]
    first = next((time for time in times if time), None)
    for column, time in zip(columns, times, strict=True):
        if time:
            ratio = f' ({time / first:.2f}×)' if len(runs) > 1 else ''
            column['Iteration'] = f'{number(time)} s{ratio}'
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [
        [key, *(column.get(key) or NOT_SET for column in columns)]
        for key in keys
        if any(column.get(key) for column in columns)
    ]
    facts = table(['', *(run.label for run in runs)], rows, 'words')
    notes = [
        f'<li><b>{escape(run.label)}</b>: {escape(note)}</li>'
        for run in runs
        for note in [*_unfinished(run), *run.notes]
    ]
    notes = f'<ul class="notes">{"".join(notes)}</ul>' if notes else ''
    return _wrapped('runs', 'Runs', facts + notes)


def _unfinished(run: Run) -> list[str]:
    words, finished = progress(run)
    return [] if finished else [f'{words}: what is shown may still change.']


def _results(run: Run) -> dict[str, str]:
    """The model's own metrics, at the last validation."""
    if not run.val:
        return {}
    return {
        key: number(value)
        for key, value in run.val[-1].values.items()
        if not READ_OUT.fullmatch(key) and key not in ('time', 'data_time')
    }


def _time(run: Run) -> float | None:
    times = run.logged('time')
    return median(times) if times else None


def _settings_section(runs: Sequence[Run]) -> tuple[str, str, str] | None:
    if len(runs) < 2:
        return None
    rows = [
        [key, *(NOT_SET if value is None else value for value in values)]
        for key, values in differences(runs).items()
    ]
    if not rows:
        inner = '<p>The configs are the same.</p>'
        return _wrapped('settings', 'Settings that differ', inner)
    inner = table(['', *(run.label for run in runs)], rows, 'words code')
    state = ' open' if len(rows) <= OPEN_ROWS else ''
    inner = (
        '<p>All others are the same. A backbone that is cut into modules is '
        'compared with a plain one; its own settings are <code>boundaries'
        f'</code>, <code>local_heads</code> and the like. {NOT_SET}: not set.'
        f'</p><details{state}><summary>{len(rows)} settings</summary>{inner}'
        '</details>'
    )
    return _wrapped('settings', 'Settings that differ', inner)
