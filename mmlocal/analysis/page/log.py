"""What only the text log of a training says."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

STAMP = re.compile(r'\d{4}/\d\d/\d\d \d\d:\d\d:\d\d')
EPOCH = re.compile(r'Epoch\(train\) +\[ *\d+\]\[ *\d+/(\d+)\]')
RESUMED = re.compile(r'resumed epoch: \d+, iter: (\d+)')
BOUNDARIES = re.compile(r'boundaries=(\[[^\]]*\])$')
SEED = re.compile(r'\s+numpy_random_seed: (\d+)')
# mmengine's survey of the machine, of indented lines.
VERSION = re.compile(r'\s+(PyTorch|(?:MM|OneDL)\w*|GPU [\d,]+): (\S.*)')


@dataclass
class TextLog:
    """Facts of one start of a training.

    Attributes:
        resumed_at (int, optional): The iteration of the checkpoint that it
            went on from.
        iters_per_epoch (int, optional): If it counts in epochs.
        boundaries (list[str], optional): If a partition chose them.
        seed (int, optional): The one that was drawn, if none was set.
        end (datetime, optional): Of the last line.
        versions (dict[str, str]): Of libraries; names of GPUs.
    """

    resumed_at: int | None = None
    iters_per_epoch: int | None = None
    boundaries: list[str] | None = None
    seed: int | None = None
    end: datetime | None = None
    versions: dict[str, str] = field(default_factory=dict)


def read_log(path: Path) -> TextLog:
    """Read a log of mmengine.

    Args:
        path (Path): The file.
    """
    log = TextLog()
    with open(path, encoding='utf-8', errors='replace') as lines:
        for line in lines:
            line = line.rstrip('\n')
            if match := STAMP.match(line):
                log.end = datetime.strptime(match[0], '%Y/%m/%d %H:%M:%S')
                _read_message(line, log)
            elif match := VERSION.fullmatch(line):
                log.versions.setdefault(match[1], match[2])
            elif match := SEED.fullmatch(line):
                log.seed = int(match[1])
    return log


def _read_message(line: str, log: TextLog) -> None:
    if match := EPOCH.search(line):
        log.iters_per_epoch = int(match[1])
    elif match := RESUMED.search(line):
        log.resumed_at = int(match[1])
    elif match := BOUNDARIES.search(line):
        log.boundaries = ast.literal_eval(match[1])
