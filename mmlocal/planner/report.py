"""Plans as tables, pictures and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .planner import Row
from .recorder import (
    BATCH,
    GRADIENTS,
    OPTIMIZER,
    PARAMETERS,
    TEMPORARY,
    Moment,
)
from .step_report import StepReport

GIB = 2**30
STATIC = (PARAMETERS, OPTIMIZER, BATCH)
COLORS = ('#4477aa', '#66ccee', '#228833', '#ccbb44', '#ee6677', '#aa3377')


def table(rows: Sequence[Row], budget: int | None = None) -> Any:
    """A rich table of ways to train, best read on a terminal."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column('')
    result.add_column('checkpointing')
    for name in ('peak GiB', 'of e2e', 'compute'):
        result.add_column(name, justify='right')
    result.add_column('boundaries', overflow='fold')
    for row in rows:
        fits = budget is not None and row.report.peak <= budget
        result.add_row(
            row.name,
            _modes(row.report),
            f'{row.report.peak / GIB:.2f}',
            f'{row.share:.3f}',
            f'{row.extra:+.1%}',
            ' '.join(row.report.split.boundaries),
            style='green' if fits else None,
        )
    return result


def breakdown(report: StepReport) -> Any:
    """A rich table of what a peak is made of."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column('at the peak')
    result.add_column('GiB', justify='right')
    for name in sorted(report.bands, key=_order):
        result.add_row(_label(name), f'{report.bands[name] / GIB:.3f}')
    result.add_row('total', f'{report.peak / GIB:.3f}', style='bold')
    return result


def to_dict(report: StepReport) -> dict[str, Any]:
    """A report in JSON's types, sizes in bytes."""
    return {
        'boundaries': list(report.split.boundaries),
        'checkpointing': list(report.split.checkpointing or ()),
        'batch_size': report.batch_size,
        'peak': report.peak,
        'at_peak': report.bands,
        'flops': report.flops,
        'unread_outputs': report.unread,
        'guessed_operators': report.guessed,
    }


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write a plan, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(json.dumps(content, indent=2) + '\n')
    partial.replace(path)


def plot(
    path: str | Path,
    report: StepReport,
    end_to_end: StepReport,
    title: str,
) -> None:
    """Draw the memory over the course of one step.

    One band a module, with end to end's total behind it in grey.

    Args:
        path (str | Path): A PNG, or what else matplotlib writes.
        report (StepReport): With its course.
        end_to_end (StepReport): With its course.
        title (str): Of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout='constrained')
    axes = figure.add_subplot()
    grey = end_to_end.course
    axes.fill_between(
        [moment.operator for moment in grey],
        [moment.total / GIB for moment in grey],
        step='post',
        color='0.88',
        label=f'end to end, peak {end_to_end.peak / GIB:.2f} GiB',
    )
    names = sorted(
        {name for moment in report.course for name in moment.bands},
        key=_order,
    )
    bands = {'weights, optimizer, batch': STATIC}
    bands |= {_label(name): (name,) for name in names if name not in STATIC}
    axes.stackplot(
        [moment.operator for moment in report.course],
        [_heights(report.course, names) for names in bands.values()],
        labels=list(bands),
        colors=_colors(list(bands)),
        step='post',
    )
    top = max(report.course, key=lambda moment: moment.total)
    axes.plot(top.operator, top.total / GIB, 'k.', markersize=5)
    axes.annotate(
        f'{report.peak / GIB:.2f} GiB',
        (top.operator, top.total / GIB),
        textcoords='offset points',
        xytext=(6, 5),
    )
    axes.set(
        title=title,
        xlabel='operators run in one training step',
        ylabel='memory, GiB',
    )
    axes.set_xlim(0, max(grey[-1].operator, report.course[-1].operator))
    axes.set_ylim(0, 1.08 * max(end_to_end.peak, report.peak) / GIB)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(
        loc='upper left', bbox_to_anchor=(1, 1), frameon=False, reverse=True
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _modes(report: StepReport) -> str:
    modes = [mode or 'none' for mode in report.split.checkpointing]
    return modes[0] if len(set(modes)) == 1 else ' '.join(modes)


def _heights(course: list[Moment], names: Sequence[str]) -> list[float]:
    return [
        sum(moment.bands.get(name, 0) for name in names) / GIB
        for moment in course
    ]


def _colors(labels: list[str]) -> list[str]:
    fixed = {labels[0]: '0.45', GRADIENTS: '0.65', TEMPORARY: '#222255'}
    modules = iter(COLORS * len(labels))
    return [fixed.get(label) or next(modules) for label in labels]


def _order(name: str) -> tuple[int, int]:
    fixed = (*STATIC, GRADIENTS)
    if name in fixed:
        return 0, fixed.index(name)
    if name == TEMPORARY:
        return 2, 0
    return 1, int(name.rpartition(' ')[2])


def _label(name: str) -> str:
    return f'activations, {name}' if name.startswith('module') else name
