"""Shaded shapes on a textured ground, with their labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

SHAPES = ('disc', 'square', 'triangle', 'star', 'ring')

# Corners, and the radius halfway between two of them over the corners' own.
_POLYGONS = {
    'square': (4, math.cos(math.pi / 4)),
    'triangle': (3, math.cos(math.pi / 3)),
    'star': (5, 0.52),
}
# The factors that give all shapes of one radius about the same area.
_SCALES = {
    'disc': 0.9,
    'square': 1.1,
    'triangle': 1.35,
    'star': 1.3,
    'ring': 1.05,
}

# Of the first corner, so that a shape stands as children draw it; and how far
# it may tilt either way.
UPRIGHT = {
    'disc': 0.0,
    'square': math.pi / 4,
    'triangle': -math.pi / 2,
    'star': -math.pi / 2,
    'ring': 0.0,
}
TILT = math.radians(25)


class Canvas:
    """A picture and its labels, painted back to front.

    Args:
        height (int): In pixels.
        width (int): In pixels.
        rng (Generator): Decides the ground and every colour.

    Attributes:
        image (np.ndarray): (H, W, 3) float32, about 0 to 255.
        labels (np.ndarray): (H, W) uint8.
    """

    def __init__(self, height: int, width: int, rng: Generator) -> None:
        self.rng = rng
        self.shadow = max(min(height, width) // 32, 1)
        self.labels = np.zeros((height, width), np.uint8)
        cells = rng.uniform(60, 195) + rng.uniform(-55, 55, (5, 5, 1))
        cells = cells + rng.uniform(-15, 15, (5, 5, 3))
        ground = _stretch(_stretch(cells, height), width)
        self.image = ground.astype(np.float32)
        y, x = np.arange(height), np.arange(width)
        self.image += self._stripes(y, x, min(height, width))

    def draw(
        self, name: str, y: float, x: float, radius: float, label: int
    ) -> None:
        """Paint a shape of any colour, a little tilted, over what is there.

        Args:
            name (str): One of ``SHAPES``.
            y (float): Of the centre, in pixels.
            x (float): Of the centre, in pixels.
            radius (float): Of a disc of about the same area, in pixels.
            label (int): What its pixels are; 0 paints without a label.
        """
        radius = radius * _SCALES[name]
        drop = self.shadow
        reach = math.ceil(radius) + 2 * drop + 1
        height, width = self.labels.shape
        rows = slice(max(int(y) - reach, 0), min(int(y) + reach, height))
        cols = slice(max(int(x) - reach, 0), min(int(x) + reach, width))
        patch = self.image[rows, cols]

        # The shadow is the shape, moved down and right.
        dy = np.arange(rows.start - drop, rows.stop) + 0.5 - y
        dx = np.arange(cols.start - drop, cols.stop) + 0.5 - x
        angle = UPRIGHT[name] + self.rng.uniform(-TILT, TILT)
        distance = _distance(name, dy, dx, radius, angle).astype(np.float32)
        shadow = np.clip(0.5 - distance[:-drop, :-drop] / (drop + 1), 0, 1)
        patch *= 1 - 0.4 * shadow[..., None]
        distance, dy, dx = distance[drop:, drop:], dy[drop:], dx[drop:]

        # Any hue alike, so that the grey in the middle is also the mean: no
        # line in colour space parts the shapes from the ground.
        hue = self.rng.uniform(0, 2 * math.pi) + np.arange(3) * 2 * math.pi / 3
        colour = self.rng.uniform(80, 175) + 95 * np.cos(hue)
        light = 0.8 + 0.2 * np.clip(-distance / (drop + 1), 0, 1)
        light -= 0.1 / radius * np.add.outer(dy, dx)
        fill = light[..., None] * colour.astype(np.float32)
        fill += self._stripes(dy, dx, 2 * radius)

        cover = np.clip(0.5 - distance, 0, 1)
        fill -= patch
        fill *= cover[..., None]
        patch += fill
        self.labels[rows, cols][cover >= 0.5] = label

    def _stripes(
        self, y: np.ndarray, x: np.ndarray, size: float
    ) -> np.ndarray:
        """Waves of grey (H, W, 1) at the rows y (H) and the columns x (W)."""
        angle, phase = self.rng.uniform(0, 2 * math.pi, 2)
        wave = 2 * math.pi * self.rng.uniform(1, 5) / size
        y = wave * math.sin(angle) * y + phase
        x = wave * math.cos(angle) * x
        # sin(y + x), taken apart so that no sine is taken per pixel.
        waves = np.outer(np.sin(y), np.cos(x)) + np.outer(np.cos(y), np.sin(x))
        waves *= self.rng.uniform(0, 20)
        return waves.astype(np.float32)[..., None]


def _stretch(cells: np.ndarray, size: int) -> np.ndarray:
    """Interpolate the first axis to ``size`` and make it the second."""
    cells_at = np.arange(len(cells))
    position = np.linspace(0, len(cells) - 1, size)[:, None]
    weights = np.clip(1 - abs(position - cells_at), 0, 1)
    return np.tensordot(cells, weights, (0, 1)).swapaxes(1, 2)


def _distance(
    name: str, y: np.ndarray, x: np.ndarray, radius: float, angle: float
) -> np.ndarray:
    """Signed distance (H, W) in pixels to a shape's edge, negative inside."""
    y = y[:, None]
    rho2 = y * y + x * x
    if name == 'disc':
        return np.sqrt(rho2) - radius
    if name == 'ring':
        return abs(np.sqrt(rho2) - 0.72 * radius) - 0.28 * radius
    # All sectors from a corner to the next mid-edge are one sector, mirrored:
    # measure along and across the direction of the nearest corner.
    count, inner = _POLYGONS[name]
    along = np.full(rho2.shape, -np.inf)
    for corner in range(count):
        turn = angle + 2 * math.pi * corner / count
        np.maximum(along, x * math.cos(turn) + y * math.sin(turn), out=along)
    across = np.sqrt(np.maximum(rho2 - along * along, 0))
    edge_x = inner * math.cos(math.pi / count) - 1
    edge_y = inner * math.sin(math.pi / count)
    length = math.hypot(edge_x, edge_y)
    return ((along - radius) * edge_y - across * edge_x) / length
