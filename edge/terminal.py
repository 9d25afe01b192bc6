"""What all screens share: ages in words, styles, names shortened in the middle, tables and sentences that fit a width.

A screen is a list of lines. It is whole without colour, as every state is also a word.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

BOLD, DIM = "bold", "dim"
# As far from white as from black: readable on a light and on a dark terminal, and the terminal's own colour of that
# name where it knows but 16.
AMBER, RED = "#c25e00", "#e32322"

PIPE_WIDTH = 160
"""Columns of output that is not a terminal."""

_STYLES = dict.fromkeys(("down", "bad", "refused", "full", "memory", "error", "no"), RED) | dict.fromkeys(
    ("degraded", "unknown", "uncertain", "connecting", "resting", "silent", "warning", "no subscriber"), AMBER
)
_S, _MIN, _H, _D = 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9
_QUANTITY = re.compile(r"(?<=\d) (?=(?:ns|us|µs|ms|s|min|h|d|days?|B|kB|MB|GB|TB)\b|%)")
_GAP = "  "
_SIZE = (80, 24)  # Of a terminal that does not say.


def fit_to_terminal(console: Console) -> None:
    """Give a console the size of the terminal, and not that of COLUMNS, which is as old as the shell that set it."""
    with suppress(OSError):
        size = os.get_terminal_size(sys.stdout.fileno())
        console.size = (size.columns or _SIZE[0], size.lines or _SIZE[1])


def output_width() -> int:
    """Columns of standard output: those of the terminal, and `PIPE_WIDTH` where it is none."""
    if not sys.stdout.isatty():
        return PIPE_WIDTH
    return os.get_terminal_size(sys.stdout.fileno()).columns or _SIZE[0]


def printable(text: str) -> str:
    """A text from a device, with every control character replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def age(age_ns: int | None) -> str:
    """How long ago, as people say it: "0.4 s", "12 min", "3 d 4 h"; "never" for None."""
    if age_ns is None:
        return "never"
    if age_ns < 10 * _S:
        return f"{age_ns // 10**8 / 10:.1f} s"
    if age_ns < 2 * _MIN:
        return f"{age_ns // _S} s"
    if age_ns < _H:
        return f"{age_ns // _MIN} min"
    larger, smaller, names = (_H, _MIN, ("h", "min")) if age_ns < _D else (_D, _H, ("d", "h"))
    rest = age_ns % larger // smaller
    return f"{age_ns // larger} {names[0]}" + (f" {rest} {names[1]}" if rest else "")


def state(word: str) -> Text:
    """A state with its colour: none where all is well, amber for what is degraded, red for what is down or bad."""
    return Text(word, style=_STYLES.get(word.lower(), ""))


def quantity(text: str) -> Text:
    """A number with its unit in a lighter grey: "12 ms"."""
    number, space, unit = text.partition(" ")
    return Text(number + space).append(unit, style=DIM)


def shorten(text: str, width: int) -> str:
    """A long name with its middle left out: "bioreacto…emperature"; both ends tell names apart."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, width)
    head = set_cell_size(text, width // 2).rstrip()
    tail = set_cell_size(text[::-1], width - cell_len(head) - 1)[::-1].lstrip()
    return f"{head}…{tail}"


def unbroken(text: str) -> str:
    """The text with spaces between numbers and their units at which no line is broken."""
    return _QUANTITY.sub("\N{NO-BREAK SPACE}", text)


def wrap(text: str, width: int, indent: int = 0) -> list[str]:
    """A sentence as lines of at most `width`, all but the first indented; a number stays with its unit."""
    lines = textwrap.wrap(
        unbroken(text), max(width, indent + 10), subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        is_number: aligned to the right, and never shortened.
        least: a column of names is shortened in the middle down to this width where needed; None: never.
        rank: where the width is too small even so, columns of the highest rank are left out; those of rank 0 never.
    """

    title: str
    is_number: bool = False
    least: int | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class FittedTable:
    """A table as lines, the heading first, and the titles of the columns for which the width was too small."""

    lines: list[Text]
    left_out: list[str]


def fit_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> FittedTable:
    """Rows in aligned columns within a width. Numbers stay whole; names give way, then columns by their rank."""
    widths = [
        max([cell_len(column.title), *(cell_len(str(row[number])) for row in rows)])
        for number, column in enumerate(columns)
    ]
    least = [min(size, column.least or size) for column, size in zip(columns, widths, strict=True)]
    shown = list(range(len(columns)))
    while sum(least[each] for each in shown) + len(_GAP) * (len(shown) - 1) > width:
        worst = max(shown, key=lambda each: (columns[each].rank, each))
        if columns[worst].rank == 0:
            break
        shown.remove(worst)
    _shrink(widths, least, shown, width - len(_GAP) * (len(shown) - 1))
    heading = _line(columns, [column.title for column in columns], widths, shown)
    heading.stylize(DIM)
    left_out = [column.title for number, column in enumerate(columns) if number not in shown]
    return FittedTable([heading, *(_line(columns, row, widths, shown) for row in rows)], left_out)


def _shrink(widths: list[int], least: list[int], shown: Sequence[int], room: int) -> None:
    """Take from the widest column that may still give."""
    while sum(widths[each] for each in shown) > room:
        givers = [each for each in shown if widths[each] > least[each]]
        if not givers:
            return
        widths[max(givers, key=lambda each: widths[each])] -= 1


def _line(columns: Sequence[Column], row: Sequence[str | Text], widths: Sequence[int], shown: Sequence[int]) -> Text:
    line = Text(no_wrap=True)
    for number in shown:
        cell, size = row[number], widths[number]
        plain = str(cell)
        if cell_len(plain) > size and not columns[number].is_number:
            cell = Text(shorten(plain, size), style=cell.style if isinstance(cell, Text) else "")
            plain = str(cell)
        padding = " " * (size - cell_len(plain))
        line.append(_GAP if line else "")
        line.append(padding if columns[number].is_number else "")
        # A plain text would be read as markup elsewhere: the unit "[pH]" would be gone.
        line.append_text(cell if isinstance(cell, Text) else Text(cell))
        line.append("" if columns[number].is_number else padding)
    line.rstrip()
    return line


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns, as wide as they are."""
    widths = [max(map(len, cells), default=0) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
