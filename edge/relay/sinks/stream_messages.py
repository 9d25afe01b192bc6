"""What stands in the messages of a stream: a record's scans, or else its rows, as JSON."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from edge.model import Catalogue, CatalogueGroup
from edge.relay.json_columns import Units
from edge.relay.reading_columns import contexts_of, readings_of
from edge.relay.shapes import BlockOrigin, ScanText, time_text
from edge.relay.sinks.other_rows import told_by
from edge.relay.sinks.sink import Parcel, SinkRecord
from edge.relay.value_tables import INT64
from edge.seal import Data, Malformed
from edge.verify import Verdict

_JSON = {"data", "changes", "more", "hardware", "sources"}  # Columns that are JSON already.


class Message(NamedTuple):
    """What becomes a message of Kafka."""

    is_values: bool
    key: bytes
    payload: bytes


class _Scans(NamedTuple):
    """What the messages of a scan group have in common."""

    key: bytes
    units: Units
    text: ScanText


class StreamMessages:
    """Makes messages of records."""

    def __init__(self) -> None:
        self._scans: dict[tuple[str, bytes, int], _Scans] = {}
        self._catalogues: dict[tuple[str, bytes], Catalogue] = {}

    def of(self, record: SinkRecord) -> list[Message]:
        """The messages of a record. Raises Malformed: JSON cannot say it."""
        content = record.content
        if isinstance(content, Data):
            return [] if record.catalogue is None else [*self._values(record, content, record.catalogue)]
        return [*self._events(record)]

    def _values(self, record: SinkRecord, data: Data, catalogue: Catalogue) -> Iterator[Message]:
        gateway, epoch, seq = record.place
        self._catalogues[gateway, epoch] = catalogue
        for block in readings_of(data, catalogue):
            number, bound_ns = block.block.group, block.time.uncertainty_ns
            scans = self._scans.get((gateway, data.catalogue, number))
            if scans is None:
                scans = self._scans[gateway, data.catalogue, number] = _scans(gateway, block.group)
            origin = BlockOrigin(
                f"{epoch.hex()}/{seq}/{block.number}/{block.row}", _in_range(block.time.utc_ns),
                None if bound_ns is None else min(bound_ns, INT64[-1]), time.time_ns(), has_unknown=record.has_unknown,
                contexts=contexts_of(block.block),
            )  # fmt: skip
            scans.units.learn_block(block.columns)
            yield Message(True, scans.key, scans.text.text(block.columns, origin))

    def _events(self, record: SinkRecord) -> Iterator[Message]:
        gateway, epoch, seq = record.place
        for row, told in enumerate(told_by(record, self._catalogues.get((gateway, epoch)))):
            content = {name: orjson.Fragment(value) if name in _JSON and value else value
                       for name, value in told.content.items()}  # fmt: skip
            said = {
                "kind": told.kind, "gateway": gateway, "device": told.device, "group": told.group,
                "t": _time(told.from_ns), "until": _time(told.to_ns), "src": f"{epoch.hex()}/{seq}/0/{row}",
                "content": content,
            }  # fmt: skip
            try:
                yield Message(False, gateway.encode(), orjson.dumps(said, default=bytes.hex))
            except orjson.JSONEncodeError as error:
                raise Malformed(f"JSON has no place for it: {error}") from error


def withdrawn(parcel: Parcel) -> Iterator[tuple[bytes, bytes]]:
    """Key and payload of what says that places of a parcel do not hold what they held any more."""
    found: defaultdict[tuple[str, Verdict], list[str]] = defaultdict(list)
    for place, verdict in [*parcel.fallen, *((place, Verdict.AUTHENTIC) for place in sorted(parcel.anew))]:
        found[place.gateway, verdict].append(f"{place.epoch.hex()}/{place.seq}")
    for (gateway, verdict), places in found.items():
        said = {"kind": "withdrawn", "gateway": gateway, "verdict": verdict.value, "places": places}
        yield gateway.encode(), orjson.dumps(said)


def _scans(gateway: str, group: CatalogueGroup) -> _Scans:
    about = {"kind": "values", "gateway": gateway, "device": group.device, "group": group.name}
    units = Units(group)
    text = ScanText(group, units, orjson.dumps(about)[1:-1] + b",", is_whole=True)
    return _Scans(f"{gateway}/{group.device}".encode(), units, text)


def _time(at_ns: int | None) -> orjson.Fragment | None:
    return None if at_ns is None else orjson.Fragment(time_text(_in_range(at_ns)))


def _in_range(at_ns: int) -> int:
    if at_ns not in INT64:
        raise Malformed("its time has more than 63 bits, which no calendar has a place for")
    return at_ns
