"""Rows as lines of text: CSV (RFC 4180) or JSON Lines. What values have in common is prepared once a tag or a block.

In CSV nothing between two commas is no value, and an empty text is in quotes. In JSON what has no value is left out,
except `value` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from edge.export.values import WIDE, Groups, column_name
from edge.model import NO_TIME, Vector, name_of, quality_of
from edge.relay.reading_columns import BAD, SourcedBlock, contexts_of
from edge.relay.shown_values import LONG, QUALITY_WORDS, GroupValues, Shown

_QUOTED = re.compile(r'[",\r\n]')


class _Dialect:
    """How fields are written. Each has its comma before it."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self.absent, self.end = (b"null", b"}\n") if is_json else (b"", b"\n")

    def header(self, names: Sequence[str]) -> bytes:
        """What comes before the first row."""
        return b"" if self._is_json else b",".join(map(_csv, names)) + b"\n"

    def begin(self, fields: bytes) -> bytes:
        """The fields that a line begins with."""
        return b"{" + fields[1:] if self._is_json else fields[1:]

    def key(self, name: str) -> bytes:
        """What comes before a number or another value that is written already."""
        return b"," + orjson.dumps(name) + b":" if self._is_json else b","

    def field(self, name: str, value: str | float | bool | None) -> bytes:
        """A name with its value."""
        if self._is_json:
            return b"" if value is None else self.key(name) + orjson.dumps(value)
        return b"," if value is None else b"," + (_csv(value) if isinstance(value, str) else orjson.dumps(value))

    def text(self, value: str) -> bytes:
        """A text that is a value by itself."""
        return orjson.dumps(value) if self._is_json else _csv(value)

    def odd(self, text: str) -> bytes:
        """NaN and infinities, for which JSON has no number."""
        return self.absent if self._is_json else text.encode()


def _csv(text: str) -> bytes:
    return ('"' + text.replace('"', '""') + '"' if not text or _QUOTED.search(text) else text).encode()


def numbers_text(values: Vector) -> list[bytes]:
    """Numbers as JSON writes them; null for what is none there."""
    values = values.view(np.uint8) if values.dtype == np.bool_ else np.ascontiguousarray(values)
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def utc_text(utc_ns: int | None) -> str:
    """UTC as RFC 3339, in nanoseconds; empty for none."""
    return "" if utc_ns is None else np.datetime_as_string(np.datetime64(utc_ns, "ns")).item() + "Z"


class LongLines:
    """A line for each value."""

    def __init__(self, groups: Groups, *, is_json: bool) -> None:
        self._groups, self._dialect = groups, _Dialect(is_json=is_json)
        self._middles: dict[GroupValues, tuple[Vector, Vector]] = {}
        self.names = LONG
        self.header = self._dialect.header(LONG)

    def lines(self, found: SourcedBlock) -> Iterator[tuple[int, bytes]]:
        """The values of a block, with their number."""
        group = self._groups.of(found)
        if group not in self._middles:
            self._middles[group] = self._middles_of(group)
        lefts, rights = self._middles[group]
        begin = _begin(self._dialect, found)
        for shown in group.shown_block(found.readings.columns):
            numbers = numbers_text(shown.numbers)
            middles = rights[shown.tags].tolist()
            is_plain = shown.has_number & (shown.codes == 0)
            for at in {*(~is_plain).nonzero()[0].tolist(), *shown.texts, *shown.labels}:
                middles[at] = self._right(group, int(shown.tags[at]), shown, at)
                if not shown.has_number[at]:
                    numbers[at] = self._dialect.absent
                elif numbers[at] == b"null":
                    numbers[at] = self._dialect.odd(shown.texts[at])
            last = _end(self._dialect, found, is_later=shown.is_later)
            if shown.times is None:
                last = self._dialect.field("source_time", None) + last
            else:
                times = self._source_times(shown.times, shown.codes < BAD)
                middles = [a + b for a, b in zip(middles, times, strict=True)]
            rows = [a + b + c for a, b, c in zip(lefts[shown.tags].tolist(), numbers, middles, strict=True)]
            yield len(rows), begin + (last + begin).join(rows) + last

    def _middles_of(self, group: GroupValues) -> tuple[Vector, Vector]:
        """For each tag what comes before its value, and after one that is a good number."""
        lefts, rights = np.empty((2, len(group.group.tags)), object)
        for number, tag in enumerate(group.group.tags):
            lefts[number] = self._dialect.field("tag", tag.name) + self._dialect.key("value")
            rights[number] = self._right(group, number)
        return lefts, rights

    def _right(self, group: GroupValues, number: int, shown: Shown | None = None, at: int = 0) -> bytes:
        tag, field = group.group.tags[number], self._dialect.field
        code = int(shown.codes[at]) if shown else 0
        return b"".join((
            field("value_text", shown.texts.get(at) if shown else None),
            field("label", shown.labels.get(at) if shown else None),
            field("unit", group.unit(tag) or None), field("type", tag.data_type.label),
            field("quality", QUALITY_WORDS[quality_of(code)]), field("status", name_of(code)),
        ))  # fmt: skip

    def _source_times(self, times: Vector, has_value: Vector) -> Iterator[bytes]:
        texts = np.datetime_as_string(times.view("M8[ns]")).tolist()
        for text, is_said in zip(texts, (has_value & (times != NO_TIME)).tolist(), strict=True):
            yield self._dialect.field("source_time", f"{text}Z" if is_said else None)


class WideLines:
    """A line for each block, with a column for each tag under each of its units."""

    def __init__(self, groups: Groups, columns: Sequence[str], *, is_json: bool) -> None:
        self._groups, self._dialect = groups, _Dialect(is_json=is_json)
        self._is_json = is_json
        self._places = {name: place for place, name in enumerate(columns)}
        at = WIDE.index("not_good")
        self.names = (*WIDE[:at], *columns, *WIDE[at:])
        self.header = self._dialect.header(self.names)

    def lines(self, found: SourcedBlock) -> Iterator[tuple[int, bytes]]:
        """The line of a block, with the number of its values."""
        group, dialect = self._groups.of(found), self._dialect
        cells: list[bytes] = [b"" if self._is_json else b","] * len(self._places)
        not_good, count, is_later = [], 0, False
        for shown in group.shown_block(found.readings.columns):
            count += len(shown.tags)
            is_later |= shown.is_later
            tags = [group.group.tags[tag] for tag in shown.tags.tolist()]
            numbers = numbers_text(shown.numbers)
            for at, (tag, number, has_number) in enumerate(zip(tags, numbers, shown.has_number.tolist(), strict=True)):
                name = column_name(group, tag)
                if code := int(shown.codes[at]):
                    not_good.append(f"{name}={name_of(code)}")
                text = shown.texts.get(at)
                if number == b"null" and text is not None:
                    number = dialect.odd(text)
                if has_number or text is not None:
                    cells[self._places[name]] = dialect.key(name) + (number if has_number else dialect.text(text or ""))
        if count:
            said = dialect.field("not_good", "; ".join(not_good) or None)
            end = _end(dialect, found, is_later=is_later)
            yield count, b"".join((_begin(dialect, found), *cells, said, end))


def _begin(dialect: _Dialect, found: SourcedBlock) -> bytes:
    time, corrected = found.readings.time, found.corrected
    right = (None, None) if corrected is None else (utc_text(corrected.utc_ns), corrected.uncertainty_ns)
    fields = zip(LONG[:6], (utc_text(time.utc_ns), right[0], time.uncertainty_ns, right[1], found.gateway,
                            found.readings.group.device), strict=True)  # fmt: skip
    return dialect.begin(b"".join(dialect.field(*each) for each in fields))


def _end(dialect: _Dialect, found: SourcedBlock, *, is_later: bool) -> bytes:
    values = (True if is_later or found.is_unknown else None, found.verdict, found.epoch, found.seq,
              found.readings.number, found.readings.row, *contexts_of(found.readings.block))  # fmt: skip
    return (
        b"".join(dialect.field(*each) for each in zip(LONG[-len(values) :], map(_plain, values), strict=True))
        + dialect.end
    )


def _plain(value: str | int | None) -> str | int | None:
    return str(value) if isinstance(value, str) else value  # orjson takes no kinds of str.
