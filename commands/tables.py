"""Text for people: aligned columns and sentences that keep within a terminal and never break a word."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

#: Longer lines are hard to read, however wide the terminal is.
MAXIMUM_WIDTH = 100
#: The last column is never squeezed under this.
MINIMUM_LAST_COLUMN = 24
GAP = "  "


def say(text: str, indent: str = "") -> None:
    """Prints a sentence, on a terminal wrapped at words; what reads a pipe gets one line."""
    click.echo(_wrapped(text, _width_available(), indent, indent + "  ") if text else "")


def show_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: Sequence[int] = ()) -> None:
    """Prints columns as wide as their cells; the last wraps at words. `right`: positions aligned to the right."""
    cells = [list(row) for row in ([header] if header else []) + list(rows)]
    if not cells:
        return
    widths = [max(_width(row[column]) for row in cells) for column in range(len(cells[0]) - 1)]
    start = sum(widths) + len(GAP) * len(widths)
    limit = _width_available()
    for number, row in enumerate(cells):
        aligned = [
            _aligned(cell, width, column in right)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        last = row[-1]
        if limit is not None:
            last = _wrapped(last, max(limit, start + MINIMUM_LAST_COLUMN), "", " " * start, start)
        line = (GAP.join([*aligned, last])).rstrip()
        click.echo(click.style(line, bold=True) if header and number == 0 else line)


def figure(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"


def moment(value: datetime | None) -> str:
    """In local time, to the minute."""
    return "never" if value is None else f"{value.astimezone():%Y-%m-%d %H:%M}"


def _aligned(cell: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(cell))
    return padding + cell if right else cell + padding


def _width(text: str) -> int:
    return len(click.unstyle(text))


def _width_available() -> int | None:
    """Columns of the terminal; None for a pipe, which has no width."""
    return min(shutil.get_terminal_size().columns, MAXIMUM_WIDTH) if sys.stdout.isatty() else None


def _wrapped(text: str, width: int | None, first: str, later: str, start: int = 0) -> str:
    """Lines of at most `width`, of which the first begins at column `start`."""
    if width is None:
        return first + text
    filled = textwrap.fill(
        text,
        width,
        initial_indent=" " * start + first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled[start:]
