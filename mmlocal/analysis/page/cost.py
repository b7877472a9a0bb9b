"""What an iteration takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median, quantiles

from mmlocal.config import schedule_of

from .blocks import Figure, table
from .marks import run_css
from .pictograms import Bar, bars
from .runs import Run
from .scales import column, number


def cost_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """Time and memory of an iteration."""
    mixed = ''
    if len({schedule_of(run.cfg) for run in runs}) > 1:
        mixed = ' Under another schedule, an iteration is other work.'
    for key, title, unit, scale in (
        ('time', 'Time of an iteration', 's', 1.0),
        ('memory', 'Peak memory of a GPU', 'GiB', 1 / 1024),
    ):
        rows, cells, first = [], [], None
        for index, run in enumerate(runs):
            values = [value * scale for value in run.logged(key)]
            if not values:
                continue
            middle = median(values)
            first = first or middle
            low, _, high = (
                quantiles(values, n=4) if len(values) > 1 else [middle] * 3
            )
            ratio = f'{middle / first:.2f}'
            rows.append(
                Bar(
                    run.label,
                    middle,
                    f'{number(middle)} {unit} · {ratio}×',
                    run_css(index),
                    (max(low, 0), high),
                )
            )
            cells.append([run.label, *column([middle, low, high]), ratio])
        if rows:
            about = '; '.join(f'{row.label}: {row.text}' for row in rows)
            yield Figure(
                title,
                bars(rows, f'{title}. {about}'),
                'Median of the logged lines, their quartiles, and the ratio '
                f'to {rows[0].label}.{mixed}',
                table(
                    ['', f'median ({unit})', '25 %', '75 %', 'ratio'], cells
                ),
            )
