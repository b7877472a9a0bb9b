"""The newest pictures that a training drew, small enough to send."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from .blocks import Figure, panels
from .runs import Run

FOLDER = 'vis_data/vis_image'
NAME = re.compile(r'(.+)_(\d+)')
MAX_WIDTH = 900  # pixels; wider ones are reduced
PNG_BYTES = 250_000  # larger ones become JPEGs
JPEG_QUALITY = 88


def picture_figures(runs: Sequence[Run], most: int) -> list[Figure]:
    """One figure, of ``most`` pictures a run at the most."""
    parts, left_out = [], []
    for index, run in enumerate(runs):
        files = newest_pictures(run)
        shown = files[:most]
        for file in shown:
            title = f'{run.label}: {_words(file)}'
            uri = data_uri(file)
            if uri is None:
                run.notes.append(f'{file.name} is no picture: left out.')
                continue
            image = f'<img src="{uri}" alt="{escape(title)}">'
            parts.append((title, image, f'run{index}'))
        total = sum(len(_files(part.folder)) for part in run.parts)
        if total > len(shown):
            left_out.append(f'{total - len(shown)} of {total} of {run.label}')
    if not parts:
        return []
    note = f'Left out: {", ".join(left_out)}.' if left_out else ''
    title = 'The newest of each name'
    return [Figure(title, panels(parts, 'large'), note, wide=True)]


def newest_pictures(run: Run) -> list[Path]:
    """The last one of each name, in the order of names."""
    newest: dict[str, Path] = {}
    for part in run.parts:
        for file in sorted(_files(part.folder), key=_step):
            match = NAME.fullmatch(file.stem)
            newest[match[1] if match else file.stem] = file
    return [newest[name] for name in sorted(newest)]


def data_uri(file: Path) -> str | None:
    """A picture as part of a page; None if it is none."""
    content = np.frombuffer(file.read_bytes(), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        return None
    height, width = image.shape[:2]
    if width > MAX_WIDTH:
        size = (MAX_WIDTH, max(1, height * MAX_WIDTH // width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    kind, encoded = 'png', cv2.imencode('.png', image)[1]
    if encoded.size > PNG_BYTES:
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        kind, encoded = 'jpeg', cv2.imencode('.jpg', image, quality)[1]
    text = base64.b64encode(encoded.tobytes()).decode()
    return f'data:image/{kind};base64,{text}'


def _files(folder: Path) -> list[Path]:
    inside = (folder / FOLDER).glob('*')
    return [f for f in inside if f.suffix.lower() in ('.png', '.jpg', '.jpeg')]


def _step(file: Path) -> int:
    match = NAME.fullmatch(file.stem)
    return int(match[2]) if match else -1


def _words(file: Path) -> str:
    match = NAME.fullmatch(file.stem)
    return f'{match[1]}, step {match[2]}' if match else file.stem
