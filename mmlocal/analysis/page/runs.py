"""Read what trainings left in their work dirs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .log import TextLog, read_log

SCALARS = 'vis_data/scalars.json'
# What tells where a line of scalars.json stands.
PLACES = ('epoch', 'iter', 'step')
FALLBACK_INTERVAL = 10  # of mmengine's LoggerHook


@dataclass
class Point:
    """A line of scalars.json.

    Attributes:
        iteration (int): Of training, from 1.
        epoch (float, optional): Epochs trained, with a fraction.
        values (dict[str, float]): By key; NaN and infinities are kept.
    """

    iteration: int
    epoch: float | None
    values: dict[str, float]


@dataclass
class Part:
    """One start of a training: a folder with a time for a name."""

    folder: Path
    cfg: dict[str, Any]
    log: TextLog
    train: list[Point]
    val: list[Point]
    notes: list[str]

    @property
    def first_iteration(self) -> int:
        """After which its own training begins."""
        if self.log.resumed_at is not None:
            return self.log.resumed_at
        if self.log.end or not self.train:
            return 0
        return self.train[0].iteration - 1  # there is no log to ask

    @property
    def begin(self) -> datetime | None:
        try:
            return datetime.strptime(self.folder.name, '%Y%m%d_%H%M%S')
        except ValueError:
            return None


@dataclass
class Run:
    """A training: all parts that count, joined.

    Attributes:
        path (Path): The work dir.
        label (str): What it is called on the page.
        parts (list[Part]): In order; a part goes on from the one before.
        train (list[Point]): Of all parts.
        val (list[Point]): Validations.
        notes (list[str]): What a reader should know about the data.
    """

    path: Path
    label: str
    parts: list[Part]
    train: list[Point]
    val: list[Point]
    notes: list[str] = field(default_factory=list)

    @property
    def cfg(self) -> dict[str, Any]:
        """The config of the last part."""
        return self.parts[-1].cfg

    @property
    def log(self) -> TextLog:
        """Of the last part."""
        return self.parts[-1].log

    def logged(self, key: str) -> list[float]:
        """The finite values of a key in training."""
        values = (point.values.get(key, math.nan) for point in self.train)
        return [value for value in values if math.isfinite(value)]

    @cached_property
    def counts_epochs(self) -> bool:
        """Whether every point has a number of epochs."""
        points = [*self.train, *self.val]
        return all(point.epoch is not None for point in points)


def read_runs(folders: Sequence[str]) -> list[Run]:
    """Read work dirs.

    Args:
        folders (Sequence[str]): Each a path, or ``PATH=LABEL``.

    Raises:
        ValueError: If one of them is no training that left numbers, or two
            have one label.
    """
    pairs = [_split(text) for text in folders]
    runs = [read_run(path) for path, _ in pairs]
    shorts = short_names([run.path for run in runs])
    for run, (_, label), short in zip(runs, pairs, shorts, strict=True):
        run.label = label or short
    labels = [run.label for run in runs]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f'{labels.count(label)} runs are called {label!r}: write '
                'FOLDER=LABEL, with a label of its own for each.'
            )
    return runs


def read_run(path: Path) -> Run:
    """Read a work dir.

    Args:
        path (Path): The folder that holds a folder for each start.

    Raises:
        ValueError: If it is no training that left numbers; says what it may
            be instead.
    """
    files = sorted(path.glob(f'*/{SCALARS}'))
    if not files:
        raise ValueError(_no_run(path))
    parts = [read_part(file.parents[1]) for file in files]
    parts = [part for part in parts if part.train or part.val]
    if not parts:
        raise ValueError(
            f'{path}: its {SCALARS} holds no numbers yet; the first come '
            'after default_hooks.logger.interval iterations.'
        )
    run = _join(path, parts)
    run.notes += [note for part in run.parts for note in part.notes]
    run.notes += _nonfinite(run)
    return run


def read_part(folder: Path) -> Part:
    """Read one start of a training."""
    notes: list[str] = []
    cfg = _read_config(folder / 'vis_data' / 'config.py', notes)
    logs = sorted(folder.glob('*.log'))
    log = read_log(logs[0]) if logs else TextLog()
    part = Part(folder, cfg, log, [], [], notes)
    logger = (cfg.get('default_hooks') or {}).get('logger') or {}
    steps_are_epochs = logger.get('log_metric_by_epoch', True)
    size = log.iters_per_epoch
    for line in _lines(folder / SCALARS, notes):
        values = {
            key: float(value)
            for key, value in line.items()
            if isinstance(value, (int, float)) and key not in PLACES
        }
        if 'iter' in line:  # a validation has its step alone
            iteration = int(line['iter'])
            epoch = iteration / size if size else None
            part.train.append(Point(iteration, epoch, values))
        elif 'step' in line:
            step = int(line['step'])
            epoch = step / size if size else None
            if not steps_are_epochs:
                iteration = step
            elif size:
                iteration, epoch = step * size, float(step)
            else:  # between the iterations that are logged
                past = part.train[-1].iteration if part.train else 0
                iteration, epoch = max(past, part.first_iteration), float(step)
            part.val.append(Point(iteration, epoch, values))
    return part


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names that tell paths apart: without the words that all have.

    Args:
        paths (Sequence[Path]): Of different folders.

    Returns:
        list[str]: ``e2e`` and ``dgl k4`` for ``e2e_resnet32`` and
        ``dgl_resnet32_k4``.
    """
    parts = [path.resolve().parts for path in paths]
    depth = 1
    while depth < max(map(len, parts)) and len(
        {part[-depth:] for part in parts}
    ) < len(parts):
        depth += 1
    names = ['/'.join(part[-depth:]) for part in parts]
    words = [re.split('[_/]', name) for name in names]
    common = set(words[0]).intersection(*words[1:]) if words[1:] else set()
    shorts = [
        ' '.join(word for word in one if word not in common) for one in words
    ]
    unique = all(shorts) and len(set(shorts)) == len(shorts)
    return shorts if unique else names


def _split(text: str) -> tuple[Path, str]:
    path, equals, label = text.partition('=')
    if not equals or Path(text).exists():
        return Path(text), ''
    return Path(path), label.strip()


def _join(path: Path, parts: list[Part]) -> Run:
    """Later parts win from where they begin."""
    run = Run(path, path.name, [], [], [])
    for part in parts:
        begin = part.first_iteration
        when = part.begin or part.folder.name
        if run.parts and not begin:
            run.parts = []
            run.notes = [
                f'Trained anew on {when}; what was trained in this folder '
                'before is left out.'
            ]
        elif run.parts:
            run.notes.append(f'Resumed after iteration {begin} on {when}.')
        again = {point.iteration for point in part.val}
        run.train = [p for p in run.train if p.iteration <= begin]
        run.val = [
            p
            for p in run.val
            if p.iteration <= begin and p.iteration not in again
        ]
        run.parts.append(part)
        run.train += part.train
        run.val += part.val
    return run


def _lines(path: Path, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    lines = path.read_text(encoding='utf-8').splitlines()
    broken = []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError:
            content = None
        if isinstance(content, dict):
            yield content
        else:
            broken.append(number)
    if broken:
        notes.append(
            f'{path.parents[1].name}/{SCALARS}: line '
            f'{", ".join(map(str, broken))} of {len(lines)} cannot be read.'
        )


def _read_config(path: Path, notes: list[str]) -> dict[str, Any]:
    """The config, as a dict; empty, with a note, if it cannot be read."""
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:  # a config is code
        notes.append(
            f'{path.parents[1].name}/vis_data/config.py cannot be read '
            f'({type(error).__name__}): what it says is left out.'
        )
        return {}
    return cfg.to_dict()


def _nonfinite(run: Run) -> Iterator[str]:
    keys = {key: None for point in run.train for key in point.values}
    for key in keys:
        points = [point for point in run.train if key in point.values]
        bad = [p for p in points if not math.isfinite(p.values[key])]
        if bad:
            yield (
                f'{key} is NaN or infinite in {len(bad)} of {len(points)} '
                f'lines, first at iteration {bad[0].iteration}; lines are '
                'interrupted there.'
            )


def _no_run(path: Path) -> str:
    if not path.exists():
        return f'there is no folder {path}.'
    if not path.is_dir():
        return f'{path} is a file: give the work dir of a training.'
    for parent in path.resolve().parents[:2]:
        if any(parent.glob(f'*/{SCALARS}')):
            return f'{path} is a part of a training: write {parent}.'
    if any(path.glob('*/vis_data')):
        return (
            f'{path} is a work dir without {SCALARS}: the training ended '
            'before anything was logged, or its visualizer has no '
            "LocalVisBackend; write visualizer=dict(type='Visualizer', "
            "vis_backends=[dict(type='LocalVisBackend')])."
        )
    below = sorted(path.glob(f'*/*/{SCALARS}'))
    message = f'{path} is no work dir of a training: no */{SCALARS} in it'
    if below:
        runs = sorted({str(file.parents[2]) for file in below})
        message += f'; there are runs below it: {" ".join(runs)}'
    return f'{message}.'
