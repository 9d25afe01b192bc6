"""What stands in the files of the lake for records: columns that duckdb reads where they are, without a step per value.

A file has the columns of an export with a row for each value, except `gateway`, which its folder says, and corrections
of the clock, which are events. A float32 stands as the float64 that is the same number, so that its last bytes are zero
and cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from edge.model import Catalogue, DataType
from edge.relay.reading_columns import SourcedBlock, readings_of
from edge.relay.shown_values import LONG
from edge.relay.sinks.other_rows import to_json, told_by
from edge.relay.sinks.sink import SinkRecord
from edge.relay.value_tables import Table, ValueTables
from edge.seal import Data, Malformed
from edge.verify import Verdict

READINGS = [name for name in LONG if name not in ("gateway", "corrected_time", "corrected_bound_ns")]
_FIRST, _LAST = -(2**63) + 1, 2**63 - 1  # The one before is no time.
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
        rows: how many rows it makes.
        size: how many bytes it takes about, here and while its file is made.
    """

    seq: int
    at_ns: int | None
    blocks: tuple[SourcedBlock, ...]
    events: tuple[dict[str, Any], ...]
    rows: int
    size: int


def held(record: SinkRecord, catalogue: Catalogue | None) -> Held:
    """A record as it waits; `catalogue` names the scan groups of its chain. Raises Malformed: no file can say it."""
    content, (gateway, epoch, seq) = record.content, record.place
    blocks: tuple[SourcedBlock, ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    at_ns: int | None
    rows, size = 0, _BLOCK_BYTES
    if isinstance(content, Data):
        chain, at_ns = epoch.hex(), content.utc_ns
        readings = readings_of(content, record.catalogue) if record.catalogue else ()
        blocks = tuple(SourcedBlock(gateway, chain, seq, Verdict.AUTHENTIC, content.catalogue, record.has_unknown, each)
                       for each in readings)  # fmt: skip
        numbers = [seq, content.utc_ns, *(each.readings.time.utc_ns for each in blocks)]
        for column in (column for each in blocks for column in each.readings.columns):
            rows += len(column.tags)
            if column.data_type is DataType.TEXT:
                size += _TEXT_BYTES * len(column.raw) + 4 * sum(map(len, column.raw.tolist()))
        size += _BLOCK_BYTES * len(blocks) + _ROW_BYTES * rows
    else:
        events = tuple(_events(record, catalogue))
        at_ns = events[0]["time"] if events else None
        numbers = [seq, *(each[name] or 0 for each in events for name in ("time", "until"))]
        rows, size = len(events), size + _ROW_BYTES * len(events)
    if not _FIRST <= min(numbers) <= max(numbers) <= _LAST:
        raise Malformed("its time or number has more than 63 bits, which Parquet has no place for")
    return Held(seq, at_ns, blocks, events, rows, size)


def reading_rows(records: Sequence[Held]) -> tuple[str, dict[str, Table]] | None:
    """A query for the readings of records, sorted by tag and time, and its tables; None where there are none."""
    blocks = [block for each in records for block in each.blocks]
    blocks.sort(key=lambda each: (each.readings.time.utc_ns, each.seq, each.readings.number, each.readings.row))
    tables = ValueTables(by_tag=True)
    batch = tables.add(blocks)
    if batch is None:
        return None
    query, common = tables.query(READINGS)
    return query, {"rows": batch.rows, "texts": batch.texts, **common}


def _events(record: SinkRecord, catalogue: Catalogue | None) -> Iterator[dict[str, Any]]:
    for row, told in enumerate(told_by(record, catalogue)):
        yield {"time": told.from_ns, "until": told.to_ns, "device": told.device, "scan_group": told.group,
               "kind": told.kind, "content": to_json(told.content), "epoch": record.place.epoch.hex(),
               "seq": record.place.seq, "row": row}  # fmt: skip


def event_rows(records: Sequence[Held]) -> str | None:
    """The parameter of EVENTS; None where there are none."""
    rows = [row for each in records for row in each.events]
    return orjson.dumps(rows).decode() if rows else None
