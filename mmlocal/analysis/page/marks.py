"""What tells runs apart: colour, dashes and the shape of markers."""

from __future__ import annotations

from collections.abc import Callable

COLORS, DASHES = 7, 5  # of the style sheet


def run_css(index: int) -> str:
    """The classes of what belongs to a run: the page hides by them."""
    return f'run{index} c{index % COLORS} d{index % DASHES}'


def module_style(index: int, count: int) -> str:
    """The colour of a module, from the first one's to the last one's."""
    return f'--t:{100 * index / max(count - 1, 1):.0f}%'


def sample(css: str, marker: int | None = None, style: str = '') -> str:
    """A short piece of a curve, for legends."""
    mark = ''
    if marker is not None:
        mark = f'<path class="mark" d="{MARKS[marker % len(MARKS)](13, 6)}"/>'
    return (
        f'<svg class="sample" viewBox="0 0 26 12" aria-hidden="true"><g class='
        f'"{css}" style="{style}"><path class="line" d="M1 6H25"/>{mark}</g>'
        '</svg>'
    )


def _polygon(*corners: tuple[float, float]) -> Callable[[float, float], str]:
    def draw(x: float, y: float) -> str:
        steps = [f'{x + dx:.1f} {y + dy:.1f}' for dx, dy in corners]
        return f'M{"L".join(steps)}Z'

    return draw


def _circle(x: float, y: float) -> str:
    return f'M{x - 3.2:.1f} {y:.1f}a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0Z'


MARKS = (
    _circle,
    _polygon((-3, -3), (3, -3), (3, 3), (-3, 3)),
    _polygon((0, -4), (3.7, 2.8), (-3.7, 2.8)),
    _polygon((0, -4.2), (4.2, 0), (0, 4.2), (-4.2, 0)),
    _polygon((0, 4), (3.7, -2.8), (-3.7, -2.8)),
    _polygon((-4, -1.5), (4, -1.5), (4, 1.5), (-4, 1.5)),
)
