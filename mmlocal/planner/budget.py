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


def parse_budget(text: str | int | float, end_to_end: int) -> int:
    """Bytes.

    Args:
        text (str | int | float): '10GiB', '9.5 GB', bytes, or a fraction of
            end to end's memory as 0.5 or '50%'.
        end_to_end (int): Bytes.

    Raises:
        ValueError: If it is no size.
    """
    message = (
        f"budget {text!r} is no size; write '10GiB' or '800MB', or a "
        "fraction of end to end's memory, as 0.5 or '50%'."
    )
    match = re.fullmatch(
        r'\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*|%)\s*', str(text)
    )
    if match is None:
        raise ValueError(message)
    number, unit = float(match[1]), match[2].upper()
    if unit == '%':
        number, unit = number / 100, ''
    if unit:
        if unit not in UNITS:
            raise ValueError(message)
        size = number * UNITS[unit]
    else:
        size = number * end_to_end if number <= 1 else number
    if size < 1:
        raise ValueError(message)
    return int(size)
