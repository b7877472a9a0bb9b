"""Shapes: a synthetic data set that is drawn, not downloaded.

A scene shows overlapping discs, squares, triangles, stars and rings of any
colour and size, a little tilted, on a textured ground. The class is the shape,
never the colour, so a model that is linear in the pixels has nothing to go by.

A scene is a pure function of its :class:`Recipe`, and a recipe is a path:
``shapes://seg/96x96/noise8/seed0/val/00003.png``. :class:`ShapesBackend`
answers such paths like files. Stock pipelines (``LoadImageFromFile``,
``LoadAnnotations``), test-time augmentation and the visualization hooks
therefore work as they do on files, and nothing is written to disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from mmengine.fileio import BaseStorageBackend, register_backend
from numpy.random import Generator

from mmlocal.datasets.canvas import SHAPES, Canvas

SPLITS = ('train', 'val')
TASKS = ('cls', 'seg')

_URI = re.compile(
    r'shapes://(?P<task>\w+)/(?P<height>\d+)x(?P<width>\d+)'
    r'/noise(?P<noise>[^/]+)/seed(?P<seed>\d+)/(?P<split>\w+)'
    r'/(?P<index>\d+)(?P<label>_label)?\.png'
)


@dataclass(frozen=True)
class Recipe:
    """What a scene is made from.

    Args:
        task (str): 'seg' (several shapes, a label a pixel) or 'cls' (one
            prominent shape among clutter, a label an image).
        height (int): Of the image, in pixels.
        width (int): Of the image, in pixels.
        noise (float): Standard deviation of the pixel noise, in grey levels.
        seed (int): Another seed is another data set.
        split (str): 'train' or 'val', which share no scene.
        index (int): Which scene of the split.
    """

    task: str
    height: int
    width: int
    noise: float
    seed: int
    split: str
    index: int

    @property
    def img_path(self) -> str:
        """Where :class:`ShapesBackend` serves the image."""
        return (
            f'shapes://{self.task}/{self.height}x{self.width}'
            f'/noise{self.noise:g}/seed{self.seed}/{self.split}'
            f'/{self.index:05d}.png'
        )

    @property
    def seg_map_path(self) -> str:
        """Where :class:`ShapesBackend` serves the labels of the pixels."""
        return self.img_path.replace('.png', '_label.png')

    def generator(self, stream: int = 0) -> Generator:
        """A random stream of this scene alone."""
        key = (
            self.seed,
            TASKS.index(self.task),
            SPLITS.index(self.split),
            self.index,
            stream,
        )
        return np.random.default_rng(key)

    def label(self) -> int:
        """The class of a 'cls' scene, an index into ``SHAPES``.

        From a stream of its own, so that nothing else in the scene tells it,
        and it is known without drawing.
        """
        return int(self.generator(stream=1).integers(len(SHAPES)))


def make_recipes(
    task: str,
    num_images: int,
    image_size: Sequence[int],
    split: str,
    seed: int,
    noise: float,
) -> list[Recipe]:
    """The recipes of one split, after a check of a data set's arguments.

    Raises:
        ValueError: For an argument out of range.
    """
    if split not in SPLITS:
        raise ValueError(f'split={split!r}: write one of {SPLITS}.')
    if num_images < 1:
        raise ValueError(f'num_images={num_images}: write at least 1.')
    if len(image_size) != 2 or min(image_size) < 24:
        raise ValueError(
            f'image_size={image_size}: write (height, width) in pixels, at '
            'least 24 each; smaller shapes cannot be told apart.'
        )
    if noise < 0 or seed < 0:
        raise ValueError(f'noise={noise}, seed={seed}: write 0 or more.')
    height, width = image_size
    # As the path carries it, so that parsing the path gives the same recipe.
    noise = float(f'{noise:g}')
    return [
        Recipe(task, height, width, noise, seed, split, index)
        for index in range(num_images)
    ]


@register_backend('shapes', prefixes='shapes')
class ShapesBackend(BaseStorageBackend):
    """Storage backend of mmengine that draws what it is asked for."""

    def get(self, filepath: str) -> bytes:
        """The image or label map of a ``shapes://`` path, as a PNG file."""
        recipe, is_label = _parse(str(filepath))
        image, labels = draw_scene(recipe)
        # Uncompressed: it is decoded at once, and never stored.
        flags = [cv2.IMWRITE_PNG_COMPRESSION, 0]
        data = cv2.imencode('.png', labels if is_label else image, flags)[1]
        return data.tobytes()

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Not there: a scene has no text."""
        raise NotImplementedError('shapes:// serves images only.')


@lru_cache(maxsize=8)  # the image and its labels are asked for one by one
def draw_scene(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Args:
        recipe (Recipe): What to draw.

    Returns:
        tuple[np.ndarray, np.ndarray]: The image (H, W, 3), BGR, and the
        labels of the pixels (H, W): 0 ground, 1 + index into ``SHAPES``.
        Both uint8; not to be written to.
    """
    rng = recipe.generator()
    canvas = Canvas(recipe.height, recipe.width, rng)
    unit = min(recipe.height, recipe.width)
    if recipe.task == 'cls':
        _draw_one_among_clutter(canvas, unit, rng, recipe.label())
    else:
        _draw_several(canvas, unit, rng)
    noise = rng.standard_normal(canvas.image.shape, dtype=np.float32)
    image = canvas.image + recipe.noise * noise
    return np.rint(image.clip(0, 255)).astype(np.uint8), canvas.labels


def _parse(path: str) -> tuple[Recipe, bool]:
    match = _URI.fullmatch(path)
    if match is None:
        raise ValueError(
            f'{path} is no path of a Shapes image; they read like '
            'shapes://seg/96x96/noise8/seed0/val/00003.png'
        )
    part = match.groupdict()
    recipe = Recipe(
        task=part['task'],
        height=int(part['height']),
        width=int(part['width']),
        noise=float(part['noise']),
        seed=int(part['seed']),
        split=part['split'],
        index=int(part['index']),
    )
    return recipe, part['label'] is not None


def _draw_several(canvas: Canvas, unit: int, rng: Generator) -> None:
    size = np.array(canvas.labels.shape)
    margin = 0.1 * unit
    placed: list[tuple[float, float, float]] = []
    for _ in range(rng.integers(2, 5)):
        radius = unit * rng.uniform(0.18, 0.3)
        name = SHAPES[rng.integers(len(SHAPES))]
        # Shapes may overlap, but none may vanish below the next.
        for _ in range(10):
            y, x = rng.uniform(margin, size - margin)
            if all(
                math.hypot(y - v, x - u) > 0.85 * (radius + r)
                for v, u, r in placed
            ):
                placed.append((y, x, radius))
                canvas.draw(name, y, x, radius, 1 + SHAPES.index(name))
                break


def _draw_one_among_clutter(
    canvas: Canvas, unit: int, rng: Generator, label: int
) -> None:
    size = np.array(canvas.labels.shape)

    def clutter(count: int, small: float, large: float) -> None:
        for _ in range(count):
            y, x = rng.uniform(0, size)
            name = SHAPES[rng.integers(len(SHAPES))]
            canvas.draw(name, y, x, unit * rng.uniform(small, large), 0)

    clutter(rng.integers(3, 7), 0.07, 0.14)
    y, x = size / 2 + unit * rng.uniform(-0.15, 0.15, 2)
    radius = unit * rng.uniform(0.24, 0.36)
    canvas.draw(SHAPES[label], y, x, radius, 1 + label)
    clutter(rng.integers(1, 4), 0.05, 0.09)
