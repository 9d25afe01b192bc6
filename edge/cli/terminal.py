"""What commands that ask devices have in common on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def printable(text: str) -> str:
    """A text that a device said, without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose cells stand below each other."""
    widths = [max(map(len, cells), default=0) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


class Progress:
    """One line on standard error that is written over; nothing where nobody watches."""

    def __init__(self) -> None:
        self._is_watched = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Replace the line."""
        if self._is_watched:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def done(self) -> None:
        """Take it away."""
        self.say("")
