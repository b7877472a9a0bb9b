"""Draws what each of two ways of training computes and sends, and when."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

# Of a module: forward, backward and message.
COLOURS = [
    ('#cfe2f5', '#5b8fc7'),
    ('#d5edd6', '#559a59'),
    ('#f8e3c4', '#cf9433'),
]
WAIT, STEP, INK = '#d94f3d', '#7b6a93', '#1b2733'


def draw(traces: dict[str, list[dict]], path: Path) -> None:
    """Draw the step of median length of the first two kinds.

    Args:
        traces (dict[str, list[dict]]): Of `ddp_overlap.py`.
        path (Path): Where to; the suffix is the format.
    """
    plt.rcParams.update({'font.family': 'DejaVu Sans', 'font.size': 10})
    ours, ddp = list(traces)[:2]
    figure, axes = plt.subplots(2, 1, figsize=(10, 4.3), sharex=True, dpi=150)
    for axis, kind in zip(axes, (ddp, ours), strict=True):
        runs = sorted(traces[kind], key=lambda trace: trace['length'])
        _draw(axis, runs[len(runs) // 2])
        name = 'DDP with find_unused_parameters'
        if kind == ours:
            name = 'LocalDistributedDataParallel'
        axis.set_title(
            f'{name}: {1e3 * runs[len(runs) // 2]["length"]:.0f} ms a step',
            loc='left',
            fontsize=11,
            color=INK,
        )
    axes[-1].set_xlabel('ms from the start of the step', color=INK)
    figure.legend(
        handles=[
            *(
                Patch(color=dark, label=f'module {index}')
                for index, (_, dark) in enumerate(COLOURS)
            ),
            Patch(color='#dddddd', label='forward (pale)'),
            Patch(color=WAIT, label='waiting for gradients'),
            Patch(color=STEP, label='optimizer step'),
        ],
        loc='lower center',
        ncols=6,
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0.06, 1, 1), h_pad=1.2)
    figure.savefig(path)
    plt.close(figure)


def _draw(axis: Axes, trace: dict) -> None:
    forward, module = 0.0, 0
    for event in trace['compute']:
        start, end = event['start'], event['end']
        pale, dark = COLOURS[min(module, len(COLOURS) - 1)]
        if event['name'] == 'backward':
            _bar(axis, 1, forward, start, pale)
            _bar(axis, 1, start, end, dark)
            forward, module = end, module + 1
        else:
            colour = WAIT if event['name'] == 'wait' else STEP
            _bar(axis, 1, start, end, colour)
    for event in trace['link']:
        start, total = event['start'], sum(event['modules'].values())
        for index, size in sorted(event['modules'].items()):
            end = start + (event['end'] - event['start']) * size / total
            _bar(axis, 0, start, end, COLOURS[int(index)][1], edge='white')
            start = end
    axis.axvline(1e3 * trace['length'], color=INK, linewidth=1, linestyle=':')
    axis.set_yticks([1, 0], ['compute', 'link'], color=INK)
    axis.set_ylim(-0.5, 1.5)
    axis.set_xlim(left=0)
    axis.tick_params(length=0)
    for side in ('top', 'right', 'left'):
        axis.spines[side].set_visible(False)


def _bar(axis, lane, start, end, colour, edge=None) -> None:
    axis.barh(
        lane,
        1e3 * (end - start),
        left=1e3 * start,
        height=0.62,
        color=colour,
        edgecolor=edge or colour,
        linewidth=0.6 if edge else 0,
    )
