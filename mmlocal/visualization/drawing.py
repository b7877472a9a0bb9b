"""Pictures of predictions.

All images are RGB (H, W, 3), uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .views import Prediction, View

WHITE, BLACK, GREY, LIGHT = (255,) * 3, (20,) * 3, (110,) * 3, (232,) * 3
BLUE = (66, 118, 184)
MARGIN = 14
SIZE = 480  # of the longer side of a picture that stands alone
TILE = 300  # of one among several


def draw_segmentation(
    image: np.ndarray,
    prediction: Prediction,
    classes: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
    opacity: float = 0.6,
) -> np.ndarray:
    """The image under its label map, with a legend of what is in it.

    Args:
        image (np.ndarray): The image.
        prediction (Prediction): With ``labels``.
        classes (Sequence[str], optional): Names.
        palette (Sequence, optional): A color for each class.
        opacity (float): Of the colors. Defaults to 0.6.
    """
    colors = _colors(palette, int(prediction.labels.max()) + 1)
    size = _fit(image, SIZE)
    canvas = Image.fromarray(
        _overlay(image, prediction.labels, colors, size, opacity)
    )
    legend = _legend(prediction.labels, classes, colors, canvas.height)
    return np.asarray(_side_by_side([canvas, legend]))


def draw_classification(
    image: np.ndarray,
    prediction: Prediction,
    classes: Sequence[str] | None,
    top: int = 5,
) -> np.ndarray:
    """The image beside its most probable classes.

    Args:
        image (np.ndarray): The image.
        prediction (Prediction): With ``scores``.
        classes (Sequence[str], optional): Names.
        top (int): How many classes. Defaults to 5.
    """
    tile = _resize(image, _fit(image, SIZE))
    bars = _bars(prediction.scores, classes, top, 360)
    canvas = Image.new(
        'RGB', (bars.width, max(bars.height, tile.height)), WHITE
    )
    canvas.paste(bars, (0, (canvas.height - bars.height) // 2))
    return np.asarray(_side_by_side([tile, canvas]))


def draw_modules(
    prediction: Prediction,
    classes: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
    top: int = 5,
    tile: int = TILE,
) -> np.ndarray:
    """Each module's own prediction above what it keeps of the image.

    Args:
        prediction (Prediction): With ``modules``; its ``truth``, if there is
            one, stands below the image.
        classes (Sequence[str], optional): Names.
        palette (Sequence, optional): A color for each class.
        top (int): How many classes of a classification. Defaults to 5.
        tile (int): Pixels of an image's longer side. Defaults to 300.
    """
    image, truth = prediction.seen, prediction.truth
    views: list[View] = [*prediction.modules, prediction]
    maps = [view.labels for view in views if view.labels is not None]
    colors = _colors(palette, max([int(m.max()) + 1 for m in maps] or [1]))
    size = _fit(image, tile)
    width = max(size[0], 260)
    cells = [('as the network gets it', _resize(image, size))]
    if isinstance(truth, np.ndarray):
        cells.append(('ground truth', _truth(image, truth, colors, size)))
        maps.append(truth[truth < len(colors)])
    elif truth is not None:
        cells.append(('ground truth', _message(_name(classes, truth), width)))
    if maps:
        together = np.concatenate([labels.ravel() for labels in maps])
        legend = _legend(together, classes, colors, size[1], shares=False)
        cells.append(('', legend))
    columns = [_Column('the image', cells, width)]
    count = len(views)
    for number, view in enumerate(views, 1):
        last = view is prediction
        if view.labels is not None:
            seen = Image.fromarray(
                _overlay(image, view.labels, colors, size, 0.75)
            )
        elif view.scores is not None:
            seen = _bars(view.scores, classes, top, width)
        else:
            seen = _message('its head gives no classes', width)
        rebuilt = (
            None
            if view.reconstruction is None
            else _resize(view.reconstruction, size)
        )
        title = f'module {number} of {count}' + ', the network' * last
        caption = 'predicts' + f', before {view.name}' * (not last)
        cells = [(caption, seen), ('rebuilds', rebuilt)]
        columns.append(_Column(title, cells, width))
    return np.asarray(_grid(columns))


def draw_annotations(
    annotated: Sequence[Prediction],
    classes: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
    tile: int = TILE,
) -> np.ndarray:
    """Images with their annotation, as many in a row as in a column.

    Args:
        annotated (Sequence[Prediction]): With ``seen`` and ``truth``.
        classes (Sequence[str], optional): Names.
        palette (Sequence, optional): A color for each class.
        tile (int): Pixels of an image's longer side. Defaults to 300.
    """
    colors = _colors(palette, len(classes) if classes else 256)
    columns, maps = [], []
    for number, item in enumerate(annotated, 1):
        size = _fit(item.seen, tile)
        title, cells = f'{number}', [('', _resize(item.seen, size))]
        if isinstance(item.truth, np.ndarray):
            drawn = _truth(item.seen, item.truth, colors, size)
            cells.append(('ground truth', drawn))
            maps.append(item.truth[item.truth < len(colors)])
        elif item.truth is not None:
            title = _shorten(f'{number} {_name(classes, item.truth)}', tile)
        columns.append(_Column(title, cells, tile))
    count = math.isqrt(len(columns) - 1) + 1
    rows = [
        _grid(columns[start : start + count])
        for start in range(0, len(columns), count)
    ]
    if maps:
        together = np.concatenate(maps)
        rows.append(_legend(together, classes, colors, 24 * 8))
    return np.asarray(_stacked(rows))


class _Column(NamedTuple):
    """Captioned cells, one below the other."""

    title: str
    cells: list[tuple[str, Image.Image | None]]
    width: int


def _grid(columns: list[_Column]) -> Image.Image:
    """Columns side by side, their cells in rows."""
    heights = [
        max((tile.height for _, tile in row if tile), default=0)
        for row in zip_longest(
            *(column.cells for column in columns), fillvalue=('', None)
        )
    ]
    width = sum(column.width + MARGIN for column in columns) + MARGIN
    height = 48 + sum(h + 36 for h in heights if h)
    canvas = Image.new('RGB', (width, height), WHITE)
    draw = ImageDraw.Draw(canvas)
    x = MARGIN
    for column in columns:
        draw.text((x, MARGIN), column.title, BLACK, _font(17, bold=True))
        y = 44
        for (caption, tile), cell_height in zip(
            column.cells, heights, strict=False
        ):
            if tile:
                draw.text((x, y), caption, GREY, _font(14))
                canvas.paste(tile, (x, y + 22))
            y += cell_height + 36 if cell_height else 0
        x += column.width + MARGIN
    return canvas


def _overlay(
    image: np.ndarray,
    labels: np.ndarray,
    colors: np.ndarray,
    size: tuple[int, int],
    opacity: float,
) -> np.ndarray:
    """Colors over an image, with a line between classes."""
    base = np.asarray(_resize(image, size)).astype(np.float32)
    labels = np.asarray(
        Image.fromarray(labels.astype(np.uint8)).resize(size, Image.NEAREST)
    )
    mixed = (1 - opacity) * base + opacity * colors[labels]
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    mixed[edge] = 0.25 * mixed[edge] + 0.75 * 255
    return mixed.round().astype(np.uint8)


def _truth(
    image: np.ndarray,
    truth: np.ndarray,
    colors: np.ndarray,
    size: tuple[int, int],
) -> Image.Image:
    """Pixels that are no class, and ignored, are black."""
    shades = np.vstack([colors, np.zeros((1, 3), np.uint8)])
    known = np.minimum(truth, len(colors))
    return Image.fromarray(_overlay(image, known, shades, size, 0.75))


def _legend(
    labels: np.ndarray,
    classes: Sequence[str] | None,
    colors: np.ndarray,
    height: int,
    shares: bool = True,
) -> Image.Image:
    """The classes in a label map and their share of it, largest first."""
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts)
    rows = max(1, (height - 8) // 24)
    height = min(height, 24 * len(found) + 8)
    blocks = -(-len(found) // rows)
    canvas = Image.new('RGB', (196 * blocks, height), WHITE)
    draw = ImageDraw.Draw(canvas)
    for place, index in enumerate(order):
        x, y = 196 * (place // rows) + 4, 24 * (place % rows) + 4
        label = int(found[index])
        color = tuple(int(value) for value in colors[label])
        draw.rounded_rectangle((x, y + 2, x + 18, y + 16), 3, color)
        name = _name(classes, label)
        draw.text((x + 26, y), _shorten(name, 112), BLACK, _font(14))
        if not shares:
            continue
        share = counts[index] / labels.size
        text = f'{share:.0%}' if share >= 0.01 else '< 1%'
        draw.text((x + 186, y), text, GREY, _font(14), anchor='ra')
    return canvas


def _bars(
    scores: np.ndarray, classes: Sequence[str] | None, top: int, width: int
) -> Image.Image:
    """The most probable classes, each over a bar of its probability."""
    order = np.argsort(-scores)[:top]
    canvas = Image.new('RGB', (width, 46 * len(order) + 4), WHITE)
    draw = ImageDraw.Draw(canvas)
    for place, label in enumerate(order):
        y = 46 * place
        score = float(scores[label])
        name = _shorten(_name(classes, int(label)), width - 56)
        font = _font(15, bold=place == 0)
        draw.text((0, y + 2), name, BLACK if place == 0 else GREY, font)
        draw.text((width - 2, y + 2), f'{score:.0%}', GREY, _font(15), 'ra')
        draw.rounded_rectangle((0, y + 25, width - 2, y + 35), 4, LIGHT)
        length = round(score * (width - 2))
        if length > 8:
            draw.rounded_rectangle((0, y + 25, length, y + 35), 4, BLUE)
    return canvas


def _message(text: str, width: int) -> Image.Image:
    canvas = Image.new('RGB', (width, 40), WHITE)
    ImageDraw.Draw(canvas).text((0, 8), text, GREY, _font(14))
    return canvas


def _side_by_side(tiles: list[Image.Image]) -> Image.Image:
    width = sum(tile.width + MARGIN for tile in tiles) + MARGIN
    height = max(tile.height for tile in tiles) + 2 * MARGIN
    canvas = Image.new('RGB', (width, height), WHITE)
    x = MARGIN
    for tile in tiles:
        canvas.paste(tile, (x, MARGIN))
        x += tile.width + MARGIN
    return canvas


def _stacked(tiles: list[Image.Image]) -> Image.Image:
    width = max(tile.width for tile in tiles)
    height = sum(tile.height for tile in tiles) + MARGIN
    canvas = Image.new('RGB', (width, height), WHITE)
    y = 0
    for tile in tiles:
        canvas.paste(tile, (0, y))
        y += tile.height
    return canvas


def _fit(image: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height with the longer one of ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resize(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    # Pixels stay visible where each is worth several.
    small = size[0] > 3 * image.shape[1]
    kind = Image.NEAREST if small else Image.LANCZOS
    return Image.fromarray(image).resize(size, kind)


def _colors(palette: Sequence[Sequence[int]] | None, count: int) -> np.ndarray:
    if palette is not None:
        return np.asarray(palette, np.uint8)
    return np.random.RandomState(0).randint(40, 230, (count, 3), np.uint8)


def _name(classes: Sequence[str] | None, label: int) -> str:
    if classes is None or label >= len(classes):
        return f'class {label}'
    # ImageNet's have synonyms, after commas.
    return str(classes[label]).split(',')[0]


def _shorten(text: str, width: int) -> str:
    font = _font(15)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f'{text}…') > width:
        text = text[:-1]
    return f'{text}…'


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings."""
    import matplotlib

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    folder = Path(matplotlib.get_data_path(), 'fonts', 'ttf')
    return ImageFont.truetype(str(folder / name), size)
