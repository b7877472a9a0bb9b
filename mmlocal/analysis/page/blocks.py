"""Figures, tables and legends as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .marks import COLORS, DASHES, sample

TABLE_ROWS = 40  # a longer table is thinned


@dataclass
class Figure:
    """What stands under one heading.

    Attributes:
        title (str): Plain text.
        body (str): HTML.
        note (str): Plain text: what is seen, and what is left out.
        table (str): HTML of the numbers behind it.
        wide (bool): Takes the whole width.
    """

    title: str
    body: str
    note: str = ''
    table: str = ''
    wide: bool = False

    def html(self) -> str:
        note = f'<p>{escape(self.note)}</p>' if self.note else ''
        table = self.table and (
            f'<details><summary>Numbers</summary>{self.table}</details>'
        )
        wide = ' class="wide"' if self.wide else ''
        return (
            f'<figure{wide}><figcaption><h3>{escape(self.title)}</h3>{note}'
            f'</figcaption>{self.body}{table}</figure>'
        )


def panels(parts: Iterable[tuple[str, str, str]], kind: str = '') -> str:
    """Small pictures beside each other.

    Args:
        parts (Iterable[tuple[str, str, str]]): Of each its title, HTML and
            classes.
        kind (str): A class of all. Defaults to ''.
    """
    inner = ''.join(
        f'<div class="panel {css}"><h4>{escape(title)}</h4>{html}</div>'
        for title, html, css in parts
    )
    return f'<div class="panels {kind}">{inner}</div>'


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    kind: str = 'numbers',
    caption: str = '',
) -> str:
    """Plain texts as a table; the first of each row is its heading."""
    title = f'<caption>{escape(caption)}</caption>' if caption else ''
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in headers)
    body = ''.join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + ''.join(f'<td>{escape(text)}</td>' for text in row[1:])
        + '</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}">{title}'
        f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def legend(labels: Mapping[int, str]) -> str:
    """Runs by number, each with its line; a click hides or shows one."""
    parts = ''.join(
        f'<label for="show{index}" class="key key{index}" '
        'title="hide or show">'
        f'{sample(f"c{index % COLORS} d{index % DASHES}", index)}'
        f'{escape(label)}</label>'
        for index, label in labels.items()
    )
    return f'<div class="legend">{parts}</div>'
