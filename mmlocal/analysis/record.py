"""Measured values in a file, by checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmlocal.files import write_atomically

from .measure import Measure, Values

NAME = 'measures.json'


class MeasureFile:
    """A JSON file that grows by an entry a checkpoint.

    ``entries`` has for each checkpoint its name, epoch and iteration, the
    names of the modules, and under ``measures`` the values, with the settings
    under which they were measured beside them. It is written anew, whole,
    with each measure.

    Args:
        path (Path): Read if it is there.

    Attributes:
        entries (list[dict]): In order of iterations.

    Raises:
        ValueError: If the file is another one.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.entries: list[dict[str, Any]] = []
        if self.path.exists():
            self.entries = _entries(self.path)

    def missing(
        self,
        place: Mapping[str, Any],
        modules: Sequence[str],
        measures: Sequence[Measure],
    ) -> list[Measure]:
        """The measures that a checkpoint lacks, under these settings.

        Args:
            place (Mapping): Which checkpoint: ``checkpoint``, ``epoch`` and
                ``iter``; ``label``, if others have the same name; and what
                else tells it from them.
            modules (Sequence[str]): Names.
            measures (Sequence[Measure]): Wanted.
        """
        entry = self._find(place, modules) or {}
        done = entry.get('settings', {})
        return [
            each
            for each in measures
            if done.get(each.name) != _plain(each.settings())
        ]

    def add(
        self,
        place: Mapping[str, Any],
        modules: Sequence[str],
        measures: Sequence[Measure],
        values: Mapping[str, Values],
    ) -> None:
        """Add what was measured of a checkpoint, and write the file."""
        entry = self._find(place, modules)
        if entry is None:
            entry = {**place, 'modules': list(modules)}
            entry.update(measures={}, settings={})
            named = entry['checkpoint'] is not None
            self.entries = [
                other
                for other in self.entries
                if not (named and _name(other) == _name(entry))
            ]
            self.entries.append(entry)
            self.entries.sort(key=lambda each: each['iter'] or 0)
        for each in measures:
            entry['settings'][each.name] = _plain(each.settings())
        entry['measures'].update(_plain(values))
        content = {'version': 1, 'entries': self.entries}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = json.dumps(content, indent=1, allow_nan=False) + '\n'
        write_atomically(self.path, data.encode())

    def _find(
        self, place: Mapping[str, Any], modules: Sequence[str]
    ) -> dict[str, Any] | None:
        wanted = {**place, 'modules': list(modules)}
        for entry in self.entries:
            if all(entry.get(key) == wanted[key] for key in wanted):
                return entry
        return None


def _name(entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return entry['checkpoint'], entry.get('label')


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
        if content['version'] != 1:
            raise ValueError(f'version {content["version"]}')
        return content['entries']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is no file of measured values ({error}): write another '
            'name, or move it away.'
        ) from error


def _plain(value: Any) -> Any:
    """As JSON has it: lists, and None for what is no number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
