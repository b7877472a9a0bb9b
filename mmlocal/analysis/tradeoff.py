"""Source accuracy, transfer and information of checkpoints, in one report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmlocal.files import write_atomically
from mmlocal.models.local_heads.targets import class_labels
from mmlocal.models.tracing import plain_eval
from mmlocal.random_state import kept_random_state

from .extract import Source
from .measure import Reading

Entry = Mapping[str, Any]

ACCURACY = 'accuracy/top1'
# Of Okabe and Ito, which the colour-blind tell apart.
BLUE, ORANGE, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'
STYLES = {
    'source/accuracy': ('source accuracy', BLUE, 'o', '-'),
    'transfer/accuracy': ('transfer accuracy', ORANGE, 's', '-'),
    'mine_source/xt': ('I(X;T), source', BLUE, 'o', '-'),
    'mine_target/xt': ('I(X;T), target', ORANGE, 's', '-'),
    'mine_source/ty': ('I(T;Y), source', GREEN, '^', '--'),
    'mine_target/ty': ('I(T;Y), target', PURPLE, 'D', '--'),
}


class InTheEyesOf(nn.Module):
    """A model with the data preprocessor of another data set's config.

    Images of the target are normalized as the target's config says, which is
    what has been published. A config without ``data_preprocessor`` takes the
    model's own.

    Args:
        model (nn.Module): Of mmpretrain.
        cfg (Config): Of the target.

    Attributes:
        data_preprocessor (nn.Module): The target's.
    """

    def __init__(self, model: nn.Module, cfg: Config):
        super().__init__()
        self.model = model
        data = cfg.get('data_preprocessor') or (cfg.get('model') or {}).get(
            'data_preprocessor'
        )
        self.data_preprocessor = model.data_preprocessor
        if data:
            scope = cfg.get('default_scope') or 'mmpretrain'
            with DefaultScope.overwrite_default_scope(scope):
                built = MODELS.build({'type': 'ClsDataPreprocessor', **data})
            device = next(model.parameters()).device
            self.data_preprocessor = built.to(device)


def logged_accuracy(checkpoint: str | Path, epoch: int | None) -> float | None:
    """Top-1 accuracy of an epoch, from the log beside a checkpoint.

    Args:
        checkpoint (str | Path): In the work dir of its training, whose
            ``*/vis_data/scalars.json`` is read; where a resumed training has
            several, the newest that has the epoch.
        epoch (int, optional): Of the checkpoint.

    Returns:
        float: In percent; None if it is not there.
    """
    logs = Path(checkpoint).parent.glob('*/vis_data/scalars.json')
    for log in sorted(logs, reverse=True):
        for line in reversed(log.read_text().splitlines()):
            row = json.loads(line)
            # Validation counts epochs; training rows have no accuracy.
            if ACCURACY in row and row.get('step') == epoch:
                return row[ACCURACY]
    return None


def measured_accuracy(model: nn.Module, source: Source) -> float:
    """Top-1 accuracy of a classifier on the validation data, in percent."""
    right = count = 0
    with torch.no_grad(), plain_eval(model), kept_random_state():
        for batch in source.batches(Reading('val')):
            data = model.data_preprocessor(batch, False)
            labels = class_labels(data['data_samples'])
            samples = model.predict(**data)
            predicted = torch.cat([each.pred_label for each in samples])
            right += (predicted.cpu() == labels.cpu()).sum().item()
            count += len(labels)
    return 100 * right / count


def write_csv(entries: Sequence[Entry], path: Path) -> None:
    """A row a checkpoint, a column a value: ``transfer/accuracy``."""
    rows = [_row(entry) for entry in entries]
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = StringIO()
    table = csv.DictWriter(stream, names, lineterminator='\n')
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, stream.getvalue().encode())


def plot_tradeoff(
    runs: Mapping[str, Sequence[Entry]], path: str | Path
) -> None:
    """Draw accuracies and information by epoch, one below the other.

    Error bars are standard deviations over repeats.

    Args:
        runs (Mapping[str, Sequence[Entry]]): Of
            :class:`~.record.MeasureFile`, by what stands above them; drawn
            side by side, with the same axes.
        path (str | Path): A PNG, or what else matplotlib writes.

    Raises:
        ValueError: If no checkpoint of a run knows its epoch.
    """
    runs = {
        name: [entry for entry in entries if entry['epoch'] is not None]
        for name, entries in runs.items()
    }
    if not all(runs.values()):
        raise ValueError('no checkpoint says of which epoch it is.')
    measures = {
        name
        for entries in runs.values()
        for entry in entries
        for name in entry['measures']
    }
    informed = any('mine' in name for name in measures)
    figure = Figure(
        figsize=(2.4 + 3.6 * len(runs), 6 if informed else 3.4),
        layout='constrained',
    )
    rows = figure.subplots(
        1 + informed, len(runs), sharex=True, sharey='row', squeeze=False
    )
    titles = 'top-1 accuracy, %', 'mutual information, nats'
    for mine, (row, title) in enumerate(zip(rows, titles, strict=False)):
        for axis, entries in zip(row, runs.values(), strict=True):
            for name in STYLES:
                if mine == name.startswith('mine'):
                    _draw(axis, entries, name)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(title)
        row[-1].legend(fontsize='small', frameon=False)
    for axis, name in zip(rows[0], runs, strict=True):
        axis.set_title(name, fontsize='medium')
    for axis in rows[-1]:
        axis.set_xlabel('epoch of training on the source')
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=150)


def _draw(axes: Axes, entries: Sequence[Entry], name: str) -> None:
    label, color, marker, line = STYLES[name]
    measure, value = name.split('/')
    points = [
        (
            entry['epoch'],
            found[value][0],
            (found.get(f'{value}_std') or [0])[0] or 0,
        )
        for entry in entries
        if value in (found := entry['measures'].get(measure, {}))
    ]
    if points:
        epochs, values, spread = zip(*points, strict=True)
        axes.errorbar(
            epochs,
            values,
            yerr=spread if any(spread) else None,
            color=color,
            marker=marker,
            linestyle=line,
            capsize=2,
            label=label,
        )


def _row(entry: Entry) -> dict[str, Any]:
    return {
        'checkpoint': entry['checkpoint'],
        'epoch': entry['epoch'],
        'iter': entry['iter'],
        **dict(_values(entry)),
    }


def _values(entry: Entry) -> Iterator[tuple[str, Any]]:
    for measure, values in entry['measures'].items():
        for name, (value,) in values.items():
            yield f'{measure}/{name}', value
