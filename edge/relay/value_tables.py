"""Values of many blocks as tables of numbers that duckdb reads where they are, and the query that makes rows of them.

The files of the lake and the Parquet of an export come of them, without a step for each value: a value is a row of
numbers, and what many have in common stands once, with its tag, its block or its status.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.model import NO_TIME, CatalogueGroup, DataType, Vector, name_of, quality_of
from edge.relay.json_columns import shortest
from edge.relay.reading_columns import BAD, BlockReadings, Column, SourcedBlock, contexts_of
from edge.relay.shown_values import QUALITY_WORDS, GroupValues, Shown, Wanted
from edge.relay.sql_text import quoted

Table = dict[str, Vector]

INT64 = range(-(2**63) + 1, 2**63)
_NONE = np.iinfo(np.int64).min
_NAT = np.datetime64("NaT", "ns")
_COLUMNS = {
    "time": "b.time", "corrected_time": "b.corrected_time", "bound_ns": f"nullif(b.bound_ns, {_NONE})",
    "corrected_bound_ns": f"nullif(b.corrected_bound_ns, {_NONE})", "gateway": "b.gateway",
    "device": "t.device::VARCHAR",
    "tag": "t.name::VARCHAR", "value": "CASE WHEN r.has_number THEN coalesce(r.value, 'NaN'::DOUBLE) END",
    "value_text": "x.value_text::VARCHAR",
    "label": "x.label::VARCHAR", "unit": "t.unit", "type": "t.type", "quality": "s.quality", "status": "s.words",
    "source_time": "r.source_time", "unknown": "nullif(b.is_unknown OR t.is_later, false)", "verdict": "b.verdict",
    "epoch": "b.epoch", "seq": "b.seq", "block": "b.number", "row": 'b."row"',
    "context": f"nullif(b.context, {_NONE})", "context_before": f"nullif(b.context_before, {_NONE})",
}  # fmt: skip
"""What a column of an export is made of; NaN is a value, though duckdb reads it as NULL."""


class Batch(NamedTuple):
    """The values of some blocks: `rows`, and in `texts` what some of them have besides."""

    rows: Table
    texts: Table


class _Piece(NamedTuple):
    """Values of one scan group, the number of each one's block, and the number of the group's first tag."""

    shown: Shown
    blocks: NDArray[np.int32]
    first_tag: int


class ValueTables:
    """Makes batches of rows, and the tables that they refer to.

    Args:
        by_tag: rows of a batch are sorted by tag, and then by block; else by block.
        is_short: a float32 becomes the float64 with the fewest digits that is the same float32; else the one that is
            the same number, which takes half the space in a file.
    """

    def __init__(
        self, wanted: Wanted = lambda *_: True, *, is_raw: bool = False, by_tag: bool = False, is_short: bool = False
    ) -> None:
        self._wanted, self._is_raw, self._by_tag, self._is_short = wanted, is_raw, by_tag, is_short
        self._groups: dict[tuple[bytes, int], tuple[GroupValues, int]] = {}
        self._tags: list[tuple[Any, ...]] = []  # Device, name, unit, type; whether only a later version knows that.
        self._blocks: list[tuple[Any, ...]] = []
        self._codes: set[int] = {0}
        self._has_times = self._has_texts = False
        self.count = 0

    def add(self, blocks: Sequence[SourcedBlock]) -> Batch | None:
        """The values of further blocks; None where there are none."""
        by_group: defaultdict[tuple[bytes, int], list[int]] = defaultdict(list)
        for at, each in enumerate(blocks):
            by_group[each.catalogue, each.readings.block.group].append(at)
        pieces: list[_Piece] = []
        for key, numbers in by_group.items():
            group, first_tag = self._group(key, blocks[numbers[0]].readings.group)
            own = [(len(self._blocks) + at, blocks[at].readings) for at in numbers]
            found = _shown(group, own, splits=not self._is_short)
            pieces += [_Piece(shown, of_block, first_tag) for shown, of_block in found]
        for each in blocks:  # Their values are not kept.
            it = each.readings
            self._blocks.append((each.gateway, each.epoch, each.verdict, each.is_unknown, each.corrected, it.time,
                                 each.seq, it.number, it.row, *contexts_of(it.block)))  # fmt: skip
        return self._batch(pieces) if pieces else None

    def _group(self, key: tuple[bytes, int], group: CatalogueGroup) -> tuple[GroupValues, int]:
        if key not in self._groups:
            values = GroupValues(group, self._wanted, is_raw=self._is_raw)
            self._groups[key] = values, len(self._tags)
            self._tags += [(group.device, tag.name, values.unit(tag), tag.data_type.label, not tag.data_type.is_known)
                           for tag in group.tags]  # fmt: skip
        return self._groups[key]

    def _batch(self, pieces: Sequence[_Piece]) -> Batch:
        block = np.concatenate([each.blocks for each in pieces])
        tag = np.concatenate([each.shown.tags.astype(np.int32) + np.int32(each.first_tag) for each in pieces])
        order = _order(self._ranks()[tag], block) if self._by_tag else np.argsort(block, kind="stable")
        numbers = (each.shown.numbers for each in pieces)
        values = [shortest(each) if self._is_short else each.astype(np.float64) for each in numbers]
        rows: Table = {
            "n": np.arange(self.count, self.count + len(order)), "block": block[order], "tag": tag[order],
            "value": np.concatenate(values)[order],
            "has_number": np.concatenate([each.shown.has_number for each in pieces])[order],
            "status": np.concatenate([each.shown.codes for each in pieces])[order],
            "source_time": np.concatenate([_source_times(each.shown) for each in pieces])[order],
        }  # fmt: skip
        self._codes |= set(np.unique(rows["status"]).tolist())
        self._has_times |= any(each.shown.times is not None for each in pieces)
        place = np.empty(len(order), np.int64)
        place[order] = rows["n"]
        texts = _texts(pieces, place)
        self._has_texts |= bool(len(texts["n"]))
        self.count += len(order)
        return Batch(rows, texts)

    def _ranks(self) -> NDArray[np.int32]:
        """The place of each tag in the order of names."""
        ranks = {tag: rank for rank, tag in enumerate(sorted(set(self._tags)))}
        return np.array([ranks[tag] for tag in self._tags], np.int32)

    def _common(self) -> dict[str, Table]:
        """The tables that all rows refer to."""
        gateway, epoch, verdict, is_unknown, corrected, times, seq, number, row, context, before = (
            [block[at] for block in self._blocks] for at in range(11)
        )
        device, name, unit, kind, is_later = ([tag[at] for tag in self._tags] for at in range(5))
        codes = sorted(self._codes)
        return {
            "tags": {
                "tag": np.arange(len(self._tags), dtype=np.int32), "device": _words(device), "name": _words(name),
                "unit": _words(unit), "type": _words(kind), "is_later": np.array(is_later, np.bool_),
            },
            "blocks": {
                "block": np.arange(len(seq), dtype=np.int32),
                "time": np.array([each.utc_ns for each in times], "M8[ns]"),
                "bound_ns": _bounds(each.uncertainty_ns for each in times),
                "corrected_time": np.array([_NAT if each is None else each.utc_ns for each in corrected], "M8[ns]"),
                "corrected_bound_ns": _bounds(each and each.uncertainty_ns for each in corrected),
                "is_unknown": np.array(is_unknown, np.bool_), "seq": np.array(seq, np.int64),
                "number": np.array(number, np.int64), "row": np.array(row, np.int64),
                "context": _bounds(context), "context_before": _bounds(before), "gateway": _words(gateway),
                "epoch": _words(epoch), "verdict": _words(verdict),
            },
            "statuses": {"status": np.array(codes, np.uint32), "words": _words(map(name_of, codes)),
                         "quality": _words(QUALITY_WORDS[quality_of(code)] for code in codes)},
        }  # fmt: skip

    def query(self, columns: Iterable[str]) -> tuple[str, dict[str, Table]]:
        """What makes of the tables `rows` and `texts` these columns of an export, and the further tables that it reads.

        Words that repeat are an ENUM, which duckdb writes three times as fast as text and readers see as text. Only
        device and tag are text: the limits of an ENUM are of no use for finding the pages of one tag.
        """
        common = self._common()
        fields = dict(_COLUMNS)
        joins = [f"JOIN ({_enums(common, 'tags', 'unit', 'type')}) t USING (tag)",
                 f"JOIN ({_enums(common, 'blocks', 'gateway', 'epoch', 'verdict')}) b USING (block)"]  # fmt: skip
        if self._has_texts:
            joins.append("LEFT JOIN texts x USING (n)")
        else:
            fields |= dict.fromkeys(("value_text", "label"), "NULL::VARCHAR")
        if self._codes != {0}:
            joins.append(f"JOIN ({_enums(common, 'statuses', 'words', 'quality')}) s USING (status)")
        else:
            fields |= {"quality": "'good'::ENUM('good')", "status": "'GOOD'::ENUM('GOOD')"}
        if not self._has_times:
            fields["source_time"] = "NULL::TIMESTAMP_NS"
        shown = ", ".join(f'{fields[name]} AS "{name}"' for name in columns)
        return f"SELECT {shown} FROM rows r {' '.join(joins)}", common  # noqa: S608 - words are quoted


def _order(code: NDArray[np.int32], block: NDArray[np.int32]) -> NDArray[np.intp]:
    """By tag, then by block."""
    order = np.argsort(code.astype(np.uint16) if code.max() < 2**16 else code, kind="stable")  # 16 bits: by radix.
    tag, then = code[order], block[order]
    if ((tag[1:] == tag[:-1]) & (then[1:] < then[:-1])).any():
        return np.lexsort((block, code))
    return order


def _source_times(shown: Shown) -> Vector:
    """The times that devices gave; none is NaT, and NULL for duckdb."""
    if shown.times is None:
        return np.full(len(shown.tags), _NAT)
    return np.where((shown.times == NO_TIME) | (shown.codes >= BAD), _NAT, shown.times.view("M8[ns]"))


def _texts(pieces: Sequence[_Piece], place: NDArray[np.int64]) -> Table:
    """What is no number, and the labels of numbers; few rows have them."""
    starts = np.cumsum([0, *(len(each.blocks) for each in pieces)]).tolist()
    texts, labels = (
        {start + at: text for start, each in zip(starts, pieces, strict=False)
         for at, text in getattr(each.shown, kind).items()}
        for kind in ("texts", "labels")
    )  # fmt: skip
    found = [*(texts | labels)]
    return {"n": place[np.array(found, np.int64)], "value_text": _words(map(texts.get, found)),
            "label": _words(map(labels.get, found))}  # fmt: skip


def _bounds(bounds: Iterable[int | None]) -> Vector:
    return np.array([_NONE if each is None else min(each, INT64[-1]) for each in bounds], np.int64)


def _words(words: Iterable[str | None]) -> Vector:
    listed = list(words)
    found = np.empty(len(listed), object)
    found[:] = listed
    return found


def _enums(tables: dict[str, Table], table: str, *names: str) -> str:
    """A table, with these columns as one of the words that they have; an empty one is none."""
    columns = ", ".join(f"{_enum(name, set(tables[table][name].tolist()))} AS {name}" for name in names)
    return f"SELECT * REPLACE ({columns}) FROM {table}"  # noqa: S608 - words are quoted


def _enum(name: str, words: Collection[str]) -> str:
    listed = ", ".join(quoted(word) for word in sorted(words) if word)
    return f"nullif({name}, '')::ENUM({listed})" if listed else "NULL::VARCHAR"


def _shown(
    group: GroupValues, blocks: list[tuple[int, BlockReadings]], *, splits: bool
) -> Iterator[tuple[Shown, NDArray[np.int32]]]:
    """The wanted values of the blocks of a scan group, with the number of each one's block."""
    if len(group.group.scales[0]):  # They are values of the same block: one after the other.
        for number, readings in blocks:
            group.learn_scales(readings.columns)
            for column in readings.columns:
                for keep in _parts(group, column, splits=splits):
                    yield group.shown(column.kept(keep)), np.full(keep.sum(), number, np.int32)
        return
    by_type: defaultdict[DataType, list[tuple[int, Column]]] = defaultdict(list)
    for number, readings in blocks:
        for column in readings.columns:
            by_type[column.data_type].append((number, column))
    for data_type, found in by_type.items():
        column = _merged(data_type, [each for _, each in found])
        of_block = np.repeat(np.array([number for number, _ in found], np.int32), [len(each.tags) for _, each in found])
        for keep in _parts(group, column, splits=splits):
            yield group.shown(column.kept(keep)), of_block[keep]


def _parts(group: GroupValues, column: Column, *, splits: bool) -> list[NDArray[np.bool_]]:
    """Which values are wanted; with `splits` float32 that stay what they are apart from those that are converted, as
    which they would become as short."""
    is_wanted = group.is_wanted[column.tags]
    if not splits or column.data_type is not DataType.FLOAT32:
        return [is_wanted]
    is_plain = group.is_plain[column.tags]
    return [is_wanted & is_plain, is_wanted & ~is_plain]


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
