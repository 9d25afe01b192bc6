"""Lines for people that begin with a time: as wide as the terminal, and one for each entry in a file or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

import click
from rich.console import Console
from rich.text import Text

from edge.sentences import TimeText
from edge.terminal import BOLD, DIM, printable, wrap

_GAP = "  "
_DAY, _OFFSET = len("2026-01-31"), len("2026-01-31 06:00:00.0")
_LINES_SHOWN = 20  # Below an entry.
_NARROW, _WIDE = 60, 110  # Columns below which a sentence begins on a line of its own, and from which kinds are shown.


class Said(NamedTuple):
    """One entry: a time where it has one, a word with its colour, a kind, a sentence, and more lines below it."""

    at_ns: int | None
    word: Text
    kind: str
    text: str
    more: Sequence[str] = ()


def time_text(zone: tzinfo | None) -> TimeText:
    """Times with a tenth of a second and their zone."""

    def text(utc_ns: int) -> str:
        try:
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1000)
            at = at.astimezone(zone or UTC)
        except OverflowError:
            return f"{utc_ns} ns"
        offset = "Z" if at.utcoffset() == timedelta(0) else at.isoformat()[-6:]
        return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 100_000}{offset}"

    return text


def show(lines_of_width: Callable[[int | None], Iterable[Text]]) -> None:
    """Print lines, which are made for the width of the terminal, or for None."""
    console = Console(highlight=False)
    width = console.width if console.is_terminal else None
    for line in lines_of_width(width):
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
        else:
            click.echo(line.plain)


def few(lines: Sequence[str], where: str) -> list[str]:
    """The first lines, and how many more there are where."""
    more = len(lines) - _LINES_SHOWN
    return [*lines[:_LINES_SHOWN], *([f"and {more:,} more, {where}"] if more > 0 else [])]


def timed_lines(
    remark: str, entries: Iterable[Said], times: TimeText, width: int | None, word_width: int
) -> Iterator[Text]:
    """Remark and entries as lines: one each without a width, with the kind where there is room for it.

    With a width a heading tells the day and the zone, so that more room is left for the sentences.
    """
    yield from _wrapped(Text(), remark, width)
    entry, heading = None, ""
    for entry in entries:
        time = "" if entry.at_ns is None else times(entry.at_ns)
        if width is not None and time:
            day, time, offset = time[:_DAY], time[_DAY:_OFFSET].strip(), time[_OFFSET:]
            if heading != (heading := f"{day} {'UTC' if offset == 'Z' else f'UTC{offset}'}"):
                yield Text(heading, BOLD)
        time = time.ljust(_OFFSET + 1 if width is None else _OFFSET - _DAY - 1)
        head = Text.assemble(time, _GAP, entry.word)
        head.pad_right(word_width - len(entry.word))
        if entry.kind and (width is None or width >= _WIDE):
            head.append(f"{_GAP}{printable(entry.kind):16}", DIM)
        yield from _wrapped(head, entry.text, width)
        for each in entry.more:
            yield from _wrapped(Text(" " * len(head)), each, width)
    if entry is None:
        yield from _wrapped(Text(), "nothing of what was asked for is on record", width)


def _wrapped(head: Text, text: str, width: int | None) -> Iterator[Text]:
    """A sentence behind what stands before it, or below that where the width is small."""
    text = printable(text)  # Names and kinds of records that were not verified may hold anything.
    if head:
        head = head + _GAP
    if width is None:
        yield head + text
    elif width < _NARROW and head:
        if head.plain.strip():
            yield head
        yield from (Text(f"{_GAP}{line}") for line in wrap(text, width - len(_GAP)))
    else:
        for line in wrap(text, width - len(head)):
            yield head + line
            head = Text(" " * len(head))
