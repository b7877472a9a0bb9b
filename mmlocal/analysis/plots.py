"""Measured values as figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Entry = Mapping[str, Any]

# Dark to light, in order of epochs, and legible to the colour-blind.
COLORMAP = 'viridis'
MARKERS = 'osD^vP*X'
PANEL = 4.2  # inches
# Lines whose names find room among them.
MOST_INSIDE = 6
COLUMNS = 3
# What the columns of a table are.
ACROSS = {
    'modules': 'module',
    'reference': 'module of the reference',
    'IoU': 'class',
}
# What is drawn with another value, not by itself, or not at all.
SUFFIXES = (
    '_sem',
    '_std',
    '_shuffled',
    '_in_sample',
    '_ceiling',
    'label_entropy',
    'weight_decay',
    'lr',
    'epoch',
)


def plot_measures(entries: Sequence[Entry], path: str | Path) -> None:
    """Draw all measures of a run.

    A panel a value: by depth, a line a checkpoint, with the shuffled control
    dashed; nHSIC also as an information plane, if all checkpoints are of one
    network; tables between modules, of the last checkpoint, as heat maps.

    Args:
        entries (Sequence[Entry]): Of :class:`~.record.MeasureFile`.
        path (str | Path): A PNG, or what else matplotlib writes.

    Raises:
        ValueError: If there is nothing to draw.
    """
    panels = list(_panels(entries))
    if not panels:
        raise ValueError('there are no measured values to draw.')
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(columns * (PANEL + 0.6), rows * PANEL), layout='constrained'
    )
    for index, (draw, args) in enumerate(panels):
        draw(figure.add_subplot(rows, columns, index + 1), *args)
    figure.savefig(path, dpi=150)


def draw_by_depth(
    axes: Axes, entries: Sequence[Entry], measure: str, name: str
) -> None:
    """One value, from module to module, a line a checkpoint."""
    looks = zip(_colors(entries), cycle(_markers(entries)), strict=False)
    for entry, (color, marker) in zip(entries, looks, strict=False):
        values = entry['measures'].get(measure, {})
        if name not in values:
            continue
        places = range(1, len(values[name]) + 1)
        spread = _spread(values, name)
        axes.errorbar(
            places,
            _numbers(values[name]),
            yerr=spread,
            color=color,
            marker=marker,
            capsize=2,
            label=_label(entry),
        )
        control = values.get(f'{name}_shuffled')
        if control is not None:
            axes.plot(places, _numbers(control), '--', color=color, lw=1)
    axes.set_xticks(range(1, _depth(entries) + 1))
    axes.set_xlabel('module')
    axes.set_ylabel(_title(measure, name))
    has_control = any(
        f'{name}_shuffled' in entry['measures'].get(measure, {})
        for entry in entries
    )
    axes.set_title('dashed: shuffled pairing' if has_control else '')
    beside = {'loc': 'upper left', 'bbox_to_anchor': (1, 1)}
    many = len(entries) > MOST_INSIDE
    axes.legend(fontsize='small', frameon=False, **(beside if many else {}))
    axes.grid(alpha=0.3)


def draw_information_plane(axes: Axes, entries: Sequence[Entry]) -> None:
    """A path a module over epochs, of nHSIC above its shuffled pairing."""
    colors = _colors(entries)
    for module in range(_depth(entries)):
        marker = MARKERS[module % len(MARKERS)]
        points = [
            (*_above_control(entry, module), color)
            for entry, color in zip(entries, colors, strict=True)
            if _above_control(entry, module)
        ]
        if not points:
            continue
        x, y, shades = zip(*points, strict=True)
        axes.plot(x, y, color='0.7', lw=1, zorder=1)
        axes.scatter(x, y, c=shades, marker=marker, zorder=2)
        axes.annotate(
            str(module + 1),
            (x[-1], y[-1]),
            xytext=(5, 4),
            textcoords='offset points',
        )
    axes.set_xlabel('nHSIC(Z, X) - shuffled')
    axes.set_ylabel('nHSIC(Z, Y) - shuffled')
    last = _label(entries[-1])
    axes.set_title(f'a path a module, its number at {last}')
    axes.grid(alpha=0.3)


def draw_table(axes: Axes, entry: Entry, measure: str, name: str) -> None:
    """A row a module, of one checkpoint."""
    table = [_numbers(row) for row in entry['measures'][measure][name]]
    percent = any(value > 1 for row in table for value in row)
    top = 100 if percent else 1
    axes.imshow(table, cmap=COLORMAP, vmin=0, vmax=top, aspect='auto')
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            axes.text(
                j,
                i,
                f'{value:.0f}' if percent else f'{value:.2f}',
                ha='center',
                va='center',
                color='black' if value > 0.6 * top else 'white',
            )
    axes.set_xticks(range(len(table[0])), range(1, len(table[0]) + 1))
    axes.set_yticks(range(len(table)), range(1, len(table) + 1))
    axes.set_xlabel(ACROSS.get(name, name))
    axes.set_ylabel('module')
    title = {'IoU': 'IoU of a linear probe, %'}.get(name, measure.upper())
    axes.set_title(f'{title}, {_label(entry)}')


def _panels(entries: Sequence[Entry]) -> Iterator[tuple[Any, tuple]]:
    names: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        for measure, values in entry['measures'].items():
            names.update({(measure, name): entry for name in values})
    for (measure, name), entry in names.items():
        column = entry['measures'][measure][name]
        if column and isinstance(column[0], list):
            yield draw_table, (entry, measure, name)
        elif not name.endswith(SUFFIXES) and not name.startswith('train_'):
            yield draw_by_depth, (entries, measure, name)
    if ('nhsic', 'y') in names and len(_networks(entries)) == 1:
        yield draw_information_plane, (entries,)


def _above_control(entry: Entry, module: int) -> tuple[float, float] | None:
    values = entry['measures'].get('nhsic', {})
    if 'y' not in values or module >= len(values['y']):
        return None
    return tuple(
        values[key][module] - values[f'{key}_shuffled'][module]
        for key in ('x', 'y')
    )


def _spread(
    values: Mapping[str, Sequence[Any]], name: str
) -> list[float] | None:
    for suffix in '_sem', '_std':
        if f'{name}{suffix}' in values:
            return [each or 0 for each in values[f'{name}{suffix}']]
    return None


def _colors(entries: Sequence[Entry]) -> list[Any]:
    import matplotlib

    shades = matplotlib.colormaps[COLORMAP]
    # Not up to the lightest, which white paper hides.
    steps = max(len(entries) - 1, 1)
    return [shades(0.9 * index / steps) for index in range(len(entries))]


def _networks(entries: Sequence[Entry]) -> set[str | None]:
    return {entry.get('label') for entry in entries}


def _markers(entries: Sequence[Entry]) -> str:
    """Epochs of one network are told apart by their color."""
    return MARKERS if len(_networks(entries)) > 1 else MARKERS[0]


def _depth(entries: Sequence[Entry]) -> int:
    return max(len(entry['modules']) for entry in entries)


def _label(entry: Entry) -> str:
    name = str(entry['checkpoint'])
    if entry.get('epoch') is not None:
        name = f'epoch {entry["epoch"]}'
    return f'{entry["label"]}, {name}' if entry.get('label') else name


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float('nan') if value is None else value for value in values]


def _title(measure: str, name: str) -> str:
    return {
        ('nhsic', 'x'): 'nHSIC(Z, X)',
        ('nhsic', 'y'): 'nHSIC(Z, Y)',
        ('probe', 'accuracy'): 'accuracy of a linear probe, %',
        ('probe', 'mIoU'): 'mIoU of a linear probe, %',
        ('rank', 'effective_rank'): 'effective rank',
    }.get((measure, name), f'{measure} {name}'.replace('_', ' '))
