"""What stands in the files of the lake for records: columns that duckdb reads where they are, without a step per value.

A file has the columns of an export with a row for each value, except `gateway`, which its folder says, and corrections
of the clock, which are events. A float32 stands as the float64 that is the same number, so that its last bytes are zero
and cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from edge.model import NO_TIME, Catalogue, DataType, Vector, name_of, quality_of
from edge.relay.reading_columns import BlockReadings, Column, readings_of
from edge.relay.shown_values import QUALITY_WORDS, GroupValues, Shown
from edge.relay.sinks.other_rows import TABLES, other_rows, to_json
from edge.relay.sinks.sink import SinkRecord
from edge.relay.sql_text import quoted
from edge.seal import Data, Malformed

INT64 = range(-(2**63) + 1, 2**63)
_NO_BOUND = -1
_BLOCK_BYTES, _ROW_BYTES, _TEXT_BYTES = 2000, 12, 120

EVENTS = """SELECT make_timestamp_ns(e.time) AS time, make_timestamp_ns(e.until) AS until, e.device, e.scan_group,
  e.kind, e.content, 'AUTHENTIC' AS verdict, e.epoch, e.seq, e."row"
  FROM (SELECT unnest(from_json($events, '[{"time": "BIGINT", "until": "BIGINT", "device": "VARCHAR",
  "scan_group": "VARCHAR", "kind": "VARCHAR", "content": "VARCHAR", "epoch": "VARCHAR", "seq": "BIGINT",
  "row": "BIGINT"}]')) AS e) ORDER BY ALL"""


@dataclass(frozen=True, slots=True)
class Held:
    """A record that waits for its file.

    Attributes:
        at_ns: its time; None where it says none.
        blocks: its readings.
        events: what else it says, as rows.
    """

    seq: int
    at_ns: int | None
    catalogue: bytes
    is_unknown: bool
    blocks: tuple[BlockReadings, ...]
    events: tuple[dict[str, Any], ...]

    @property
    def rows(self) -> int:
        """How many rows it makes."""
        return len(self.events) + sum(len(column.tags) for block in self.blocks for column in block.columns)

    @property
    def size(self) -> int:
        """How many bytes it takes about, here and while its file is made."""
        columns = [column for block in self.blocks for column in block.columns]
        texts = [column.raw for column in columns if column.data_type is DataType.TEXT]
        return (
            _BLOCK_BYTES * (1 + len(self.blocks)) + _ROW_BYTES * self.rows
            + sum(_TEXT_BYTES * len(each) + 4 * sum(map(len, each.tolist())) for each in texts)
        )  # fmt: skip


def held(record: SinkRecord, catalogue: Catalogue | None) -> Held:
    """A record as it waits; `catalogue` names the scan groups of its chain. Raises Malformed: no file can say it."""
    content, place = record.content, record.place
    if isinstance(content, Data):
        blocks = tuple(readings_of(content, record.catalogue)) if record.catalogue else ()
        events: tuple[dict[str, Any], ...] = ()
        at_ns: int | None = content.utc_ns
        numbers = [place.seq, content.utc_ns, *(block.time.utc_ns for block in blocks)]
    else:
        events = tuple(_events(record, catalogue))
        at_ns = events[0]["time"] if events else None
        numbers = [place.seq, *(each[name] or 0 for each in events for name in ("time", "until"))]
        blocks = ()
    if not all(number in INT64 for number in numbers):
        raise Malformed("its time or number has more than 63 bits, which Parquet has no place for")
    digest = content.catalogue if isinstance(content, Data) else b""
    return Held(place.seq, at_ns, digest, record.has_unknown, blocks, events)


def _events(record: SinkRecord, catalogue: Catalogue | None) -> Iterator[dict[str, Any]]:
    for row, (table, values) in enumerate(other_rows(record)):
        said = dict(zip(TABLES[table].split(", "), values, strict=True))
        begins = [said.pop(name) for name in ("t_ns", "from_ns", "since_ns") if name in said]
        until, number, device, group = said.pop("to_ns", None), said.get("scan_group"), said.pop("device", None), None
        if number is not None and catalogue is not None and number < len(catalogue.groups):
            device, group = catalogue.groups[number].device, catalogue.groups[number].name
        yield {"time": begins[0] if begins else None, "until": until, "device": device, "scan_group": group,
               "kind": table, "content": to_json(said), "epoch": record.place.epoch.hex(), "seq": record.place.seq,
               "row": row}  # fmt: skip


def event_rows(records: Sequence[Held]) -> str | None:
    """The parameter of EVENTS; None where there are none."""
    rows = [row for each in records for row in each.events]
    return orjson.dumps(rows).decode() if rows else None


class Readings(NamedTuple):
    """A query for the rows of readings, and the tables in it."""

    query: str
    tables: dict[str, dict[str, Vector]]


class _Piece(NamedTuple):
    """Values of a scan group, and which block each is of."""

    shown: Shown
    block: NDArray[np.int32]
    base: int


def reading_rows(records: Sequence[Held], epoch: str) -> Readings | None:
    """The readings of records of one chain, sorted by tag and time; None where there are none."""
    found = [(block, each) for each in records for block in each.blocks]
    found.sort(key=lambda pair: (pair[0].time.utc_ns, pair[1].seq, pair[0].number, pair[0].row))
    by_group: defaultdict[tuple[bytes, int], list[int]] = defaultdict(list)
    for at, (block, each) in enumerate(found):
        by_group[each.catalogue, block.block.group].append(at)
    pieces: list[_Piece] = []
    tags: list[tuple[str, str, str, str]] = []
    for numbers in by_group.values():
        group = GroupValues(found[numbers[0]][0].group, lambda *_: True, is_raw=False)
        pieces += [_Piece(*piece, len(tags)) for piece in _shown(group, [(at, found[at][0]) for at in numbers])]
        tags += [(group.group.device, tag.name, group.unit(tag), tag.data_type.label) for tag in group.group.tags]
    if not pieces:
        return None
    names = sorted(set(tags))
    numbers_of = {name: number for number, name in enumerate(names)}
    code = np.array([numbers_of[tag] for tag in tags], np.int32)[
        np.concatenate([piece.base + piece.shown.tags for piece in pieces])
    ]
    of_block = np.concatenate([piece.block for piece in pieces])
    order = _order(code, of_block, len(names))
    of_block = of_block[order]
    tables: dict[str, dict[str, Vector]] = {"names": _names(names)}
    rows = tables["rows"] = {"tag": code[order]}
    times = [each.time for each, _ in found]
    bounds = [_NO_BOUND if time.uncertainty_ns is None else min(time.uncertainty_ns, INT64[-1]) for time in times]
    rows["time"] = np.array([time.utc_ns for time in times], "M8[ns]")[of_block]
    rows["bound_ns"] = np.array(bounds, np.int64)[of_block]
    rows["seq"] = np.array([each.seq for _, each in found], np.int64)[of_block]
    rows["value"] = np.concatenate([piece.shown.numbers.astype(np.float64) for piece in pieces])[order]
    rows["has_number"] = np.concatenate([piece.shown.has_number for piece in pieces])[order]
    rows["status"] = np.concatenate([piece.shown.codes for piece in pieces])[order]
    query = _Query(rows, tables, names)
    query.add_places("block", [each.number for each, _ in found], of_block)
    query.add_places("row", [each.row for each, _ in found], of_block)
    query.add_unknown(np.array([each.is_unknown for _, each in found], np.bool_)[of_block], pieces, order)
    query.add_source_times(pieces, order)
    query.add_texts(pieces, order)
    query.add_status()
    return Readings(query.text(epoch), tables)


def _order(code: NDArray[np.int32], block: NDArray[np.int32], tags: int) -> NDArray[np.intp]:
    """By tag, then by time: blocks are numbered in the order of time."""
    order = np.argsort(code.astype(np.uint16) if tags < 2**16 else code, kind="stable")  # 16 bits: by radix.
    tag, then = code[order], block[order]
    if ((tag[1:] == tag[:-1]) & (then[1:] < then[:-1])).any():
        return np.lexsort((block, code))
    return order


def _names(names: Sequence[tuple[str, ...]]) -> dict[str, Vector]:
    table: dict[str, Vector] = {"tag": np.arange(len(names), dtype=np.int32)}
    for name, texts in zip(("device", "name", "unit", "type"), zip(*names, strict=True), strict=True):
        table[name] = np.array(texts, object)
    return table


def _shown(group: GroupValues, blocks: list[tuple[int, BlockReadings]]) -> Iterator[tuple[Shown, NDArray[np.int32]]]:
    """The values of the blocks of a scan group, with the number of each one's block; many blocks at once."""
    plain = np.array([(tag.scale, tag.offset, tag.scale_tag) == (1, 0, "") for tag in group.group.tags], np.bool_)
    if len(group.group.scales[0]):  # The scales are in the same block.
        for at, readings in blocks:
            columns = tuple(part for column in readings.columns for part in _apart(column, plain))
            for shown in group.shown(columns):
                yield shown, np.full(len(shown.tags), at, np.int32)
        return
    by_type: defaultdict[DataType, list[tuple[int, Column]]] = defaultdict(list)
    for at, readings in blocks:
        for column in readings.columns:
            by_type[column.data_type].append((at, column))
    for data_type, found in by_type.items():
        merged = _merged(data_type, [column for _, column in found])
        block = np.repeat(np.array([at for at, _ in found], np.int32), [len(column.tags) for _, column in found])
        for is_plain in (True, False) if data_type is DataType.FLOAT32 else (None,):
            keep = np.ones(len(block), np.bool_) if is_plain is None else plain[merged.tags] == is_plain
            for shown in group.shown((merged.kept(keep),)):
                yield shown, block[keep]


def _merged(data_type: DataType, columns: list[Column]) -> Column:
    times = None
    if any(column.times is not None for column in columns):
        times = np.concatenate([np.full(len(column.tags), NO_TIME, np.int64) if column.times is None else column.times
                                for column in columns])  # fmt: skip
    return Column(
        data_type, np.concatenate([column.tags for column in columns]),
        np.concatenate([column.raw for column in columns]), np.concatenate([column.codes for column in columns]), times,
        np.concatenate([column.is_known for column in columns]),
    )  # fmt: skip


def _apart(column: Column, plain: NDArray[np.bool_]) -> Iterator[Column]:
    """float32 that are converted, and those that stay what they are: else all became as short as the converted."""
    if column.data_type is not DataType.FLOAT32:
        yield column
        return
    keep = plain[column.tags]
    yield from (column.kept(keep), column.kept(~keep))


class _Query:
    """The query, with what only some files have.

    Words that repeat are an ENUM, which duckdb writes three times as fast as text and readers see as text. Only device
    and tag are text, because the limits of an ENUM are of no use for finding the pages of one tag.
    """

    def __init__(
        self, rows: dict[str, Vector], tables: dict[str, dict[str, Vector]], names: Sequence[tuple[str, ...]]
    ) -> None:
        self._rows, self._tables = rows, tables
        units, types = ({name[n] for name in names} for n in (2, 3))
        unit, kind = _enum("nullif(unit, '')", units), _enum("type", types)
        words = f"SELECT tag, device, name, {unit} AS unit, {kind} AS type FROM names"  # noqa: S608 - they are quoted
        self._joins = [f"JOIN ({words}) t USING (tag)"]
        self._fields = dict.fromkeys(("value_text", "label"), "NULL::VARCHAR") | {
            "source_time": "NULL::TIMESTAMP_NS", "unknown": "NULL::BOOLEAN", "block": "0::BIGINT", "row": "0::BIGINT",
            "quality": _enum("'good'", {"good"}), "status": _enum("'GOOD'", {"GOOD"}),
        }  # fmt: skip

    def add_places(self, field: str, numbers: list[int], of_block: NDArray[np.int32]) -> None:
        """Numbers of blocks in their record, or of rows in their block."""
        if any(numbers):
            self._rows[field] = np.array(numbers, np.int64)[of_block]
            self._fields[field] = f'r."{field}"'

    def add_unknown(self, of_record: NDArray[np.bool_], pieces: Sequence[_Piece], order: NDArray[np.intp]) -> None:
        """What only a later version knows."""
        is_later = np.concatenate([np.full(len(piece.block), piece.shown.is_later) for piece in pieces])[order]
        if (of_record | is_later).any():
            self._rows["unknown"] = of_record | is_later
            self._fields["unknown"] = "nullif(r.unknown, false)"

    def add_source_times(self, pieces: Sequence[_Piece], order: NDArray[np.intp]) -> None:
        """The times that devices gave; NO_TIME is NaT, and NULL for duckdb."""
        if any(piece.shown.times is not None for piece in pieces):
            times = [
                np.full(len(shown.tags), np.datetime64("NaT"), "M8[ns]") if shown.times is None
                else np.where(shown.times == NO_TIME, np.datetime64("NaT"), shown.times.view("M8[ns]"))
                for shown, *_ in pieces
            ]  # fmt: skip
            self._rows["source_time"] = np.concatenate(times)[order]
            self._fields["source_time"] = "r.source_time"

    def add_texts(self, pieces: Sequence[_Piece], order: NDArray[np.intp]) -> None:
        """What is no number, and the labels of numbers; few rows have them."""
        if not any(piece.shown.texts or piece.shown.labels for piece in pieces):
            return
        self._rows["n"] = np.arange(len(order))
        place = np.empty(len(order), np.int64)
        place[order] = self._rows["n"]
        starts = np.cumsum([0, *(len(piece.block) for piece in pieces)]).tolist()
        for field, kind in (("value_text", "texts"), ("label", "labels")):
            found = {start + at: text for start, piece in zip(starts, pieces, strict=False)
                     for at, text in getattr(piece.shown, kind).items()}  # fmt: skip
            if found:
                said = np.empty(len(found), object)
                said[:] = list(found.values())
                self._tables[field] = {"n": place[np.array([*found], np.int64)], field: said}
                self._joins.append(f"LEFT JOIN {field} USING (n)")
                self._fields[field] = f"{field}.{field}"

    def add_status(self) -> None:
        """Status codes in words."""
        codes = self._rows.pop("status")
        if codes.any():
            different = np.unique(codes)
            words = [name_of(code) for code in different.tolist()]
            qualities = [QUALITY_WORDS[quality_of(code)] for code in different.tolist()]
            self._rows["status"] = codes
            self._tables["statuses"] = {
                "status": different, "words": np.array(words, object), "quality": np.array(qualities, object),
            }  # fmt: skip
            word, quality = _enum("words", set(words)), _enum("quality", set(qualities))
            query = f"SELECT status, {word} AS words, {quality} AS quality FROM statuses"  # noqa: S608 - they are quoted
            self._joins.append(f"JOIN ({query}) s USING (status)")
            self._fields |= {"status": "s.words", "quality": "s.quality"}

    def text(self, epoch: str) -> str:
        """The query; NaN is a value, though duckdb reads it as NULL."""
        f = self._fields
        verdict, chain = _enum("'AUTHENTIC'", {"AUTHENTIC"}), _enum(f"'{epoch}'", {epoch})
        return f"""SELECT r.time, nullif(r.bound_ns, {_NO_BOUND}) AS bound_ns, t.device, t.name AS tag,
          CASE WHEN r.has_number THEN coalesce(r.value, 'NaN'::DOUBLE) END AS value, {f["value_text"]} AS value_text,
          {f["label"]} AS label, t.unit, t.type, {f["quality"]} AS quality, {f["status"]} AS status,
          {f["source_time"]} AS source_time, {f["unknown"]} AS unknown, {verdict} AS verdict, {chain} AS epoch,
          r.seq, {f["block"]} AS block, {f["row"]} AS "row"
          FROM rows r {" ".join(self._joins)}"""  # noqa: S608 - an epoch is hexadecimal digits, and words are quoted


def _enum(value: str, words: Collection[str]) -> str:
    """A value as one of few words."""
    listed = ", ".join(quoted(word) for word in sorted(words) if word)
    return f"{value}::ENUM({listed})" if listed else "NULL::VARCHAR"
