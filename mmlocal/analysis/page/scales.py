"""Axes, and numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STEPS = (1, 2, 2.5, 5, 10)
KILO = 10_000  # from which ticks are counted in thousands


@dataclass
class Scale:
    """From values to pixels.

    Attributes:
        low (float): The value at ``begin``.
        high (float): The value at ``end``; larger than ``low``.
        begin (float): In pixels.
        end (float): In pixels; smaller than ``begin`` on a y axis.
        log (bool): Equal ratios are of equal length; needs ``low`` > 0.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = map(math.log, (value, low, high))
        share = (value - low) / (high - low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, count: int) -> list[float]:
        """About ``count`` round values, and never more."""
        if self.log:
            return log_ticks(self.low, self.high, count)
        return linear_ticks(self.low, self.high, count)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Round values at equal distances, ``count`` at most."""
    size = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(size))
    for step in (factor * power for factor in (*STEPS, 20)):
        first, last = (
            math.ceil(low / step - 1e-9),
            math.floor(high / step + 1e-9),
        )
        if last - first + 1 <= count:
            break
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten; between them where there are few; ``count`` at most."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [
            factor * 10.0**power
            for power in range(first, last + 1)
            for factor in factors
            if low <= factor * 10.0**power <= high
        ]
        if len(ticks) <= count:
            # Within less than a decade, there may be none.
            return ticks if len(ticks) > 2 else linear_ticks(low, high, count)
    every = -(-len(ticks) // count)
    return ticks[::every]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """All with the decimals that the finest one needs."""
    largest = max(map(abs, ticks), default=0)
    if largest >= KILO:
        return [f'{tick / 1000:g}k' if tick else '0' for tick in ticks]
    smallest = min((abs(tick) for tick in ticks if tick), default=1)
    if smallest < 1e-3 or smallest < largest / 1000:
        return [_short_exponent(f'{tick:g}') for tick in ticks]
    for decimals in range(7):
        if all(
            math.isclose(round(t, decimals), t, abs_tol=1e-9) for t in ticks
        ):
            break
    return [f'{tick:.{decimals}f}' for tick in ticks]


def padded(values: Iterable[float], log: bool = False) -> tuple[float, float]:
    """The range of values, with a margin.

    Args:
        values (Iterable[float]): Finite; positive if ``log``.
        log (bool): For an axis of equal ratios. Defaults to False.
    """
    values = list(values)
    low, high = min(values), max(values)
    if log:
        factor = (high / low) ** 0.04 if high > low else 1.1
        return low / factor, high * factor
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    # Nothing that is positive is drawn below zero.
    return (low - margin if low < 0 else max(0.0, low - margin)), high + margin


def number(value: float | None) -> str:
    """Four digits; '' for what is missing."""
    if value is None:
        return ''
    if not math.isfinite(value):
        return 'NaN' if math.isnan(value) else f'{value}'
    if value == int(value) and abs(value) < 1e6:
        return f'{value:.0f}'
    return _short_exponent(f'{value:.4g}')


def column(values: Sequence[float | None]) -> list[str]:
    """Numbers that stand below each other: with equal decimals, if fit."""
    finite = [abs(v) for v in values if v is not None and math.isfinite(v)]
    largest = max(finite, default=0.0)
    smallest = min((value for value in finite if value), default=largest)
    whole = all(value == int(value) for value in finite)
    if not largest or whole or smallest < largest / 1000:
        return [number(value) for value in values]
    decimals = max(0, 3 - math.floor(math.log10(largest)))
    if decimals > 6:
        return [number(value) for value in values]
    return [
        number(v) if v is None or not math.isfinite(v) else f'{v:.{decimals}f}'
        for v in values
    ]


def _short_exponent(text: str) -> str:
    mantissa, e, exponent = text.partition('e')
    return f'{mantissa}e{int(exponent)}' if e else text
