"""Budgets of memory, as people write them."""

from __future__ import annotations

import re

UNITS = {
    'B': 1,
    'KB': 10**3,
    'MB': 10**6,
    'GB': 10**9,
    'TB': 10**12,
    'KIB': 2**10,
    'MIB': 2**20,
    'GIB': 2**30,
    'TIB': 2**40,
}
# Bytes without a unit: fewer are a forgotten unit.
FEWEST_BYTES = 2**10


def parse_budget(text: str | int | float, end_to_end: int) -> int:
    """Bytes.

    Args:
        text (str | int | float): '10GiB', '9.5 GB', bytes, or a fraction of
            end to end's memory as 0.5 or '50%'.
        end_to_end (int): Bytes.

    Raises:
        ValueError: If it is no size, or a fraction above 1.
    """
    match = re.fullmatch(
        r'\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*|%)\s*', str(text)
    )
    if match is None:
        raise ValueError(_message(text, 'no size'))
    number, unit = float(match[1]), match[2].upper()
    if unit == '%' or (not unit and number <= 1):
        part = number / 100 if unit else number
        if part > 1:
            raise ValueError(_message(text, 'more than end to end takes'))
        size = part * end_to_end
    elif unit:
        if unit not in UNITS:
            raise ValueError(_message(text, 'no size'))
        size = number * UNITS[unit]
    elif number < FEWEST_BYTES or not number.is_integer():
        raise ValueError(_message(text, 'no fraction, and has no unit'))
    else:
        size = number
    if size < 1:
        raise ValueError(_message(text, 'no size'))
    return int(size)


def _message(text: str | int | float, reason: str) -> str:
    return (
        f"budget {text!r} is {reason}; write '10GiB' or '800MB', or a "
        "fraction of end to end's memory, as 0.5 or '50%'."
    )
