"""The archive of a worker, and what the next owner of a gateway needs of it."""

# Theory of operation
#
# A gateway moves from worker to worker, and its archived records stay where they are. What goes along is small, and is
# stored with the offset up to which the gateway's records are taken. It is rows, by key:
#   GATEWAY               what the verifier knows of its chains, without hashes of records
#   GATEWAY/record/HASH   a record without which later ones cannot be read or delivered: a part of a catalogue, or one
#                         that waits for its catalogue
#   GATEWAY/waiting/HASH  a message that cannot be judged before its key came
#
# The new owner appends those records to its own archive, where its readers and views find them as if they had just
# come. A record may therefore be in two archives, or in one twice, always with the same bytes: whoever verifies the
# archives together counts it once, and the sinks tell by its place what they have.
#
# What this archive has of gateways that others own now stays verified here, for sinks that are behind.

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
import orjson

from edge.relay.archive import RecordLocation
from edge.relay.changes import CHANGES, PLACE
from edge.relay.completeness import Missing
from edge.relay.follow import ArchivedRecord
from edge.relay.intake import IssuerCounts, records_topic
from edge.relay.sinks.reader import Reader
from edge.relay.sinks.sink import Parcel
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import parse
from edge.seal.record import ISSUER_PREFIX

Rows = dict[str, bytes | None]


@dataclass(slots=True)
class _Owned:
    """A gateway of this worker: its reader, and the keys of what is stored of it, records by their place here."""

    reader: Reader
    was_running: bool = False
    records: dict[RecordLocation, str] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)


class WorkerStore(RelayStore):
    """A relay's archive for the gateways that this worker owns at the moment."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._owned: dict[str, _Owned] = {}

    def adopt(self, gateway: str, rows: Mapping[str, bytes], arrived_ns: int) -> None:
        """Go on with a gateway where its owner before stopped; without rows it is new. Raises OSError."""
        issuer = ISSUER_PREFIX + gateway
        self.intake.forget(issuer)
        owned = self._owned[gateway] = _Owned(Reader(self._archive.directory, self._end_of(gateway)))
        if gateway in rows:
            self._verifier.restore(rows[gateway])
            owned.was_running = not self._verifier.has_stopped(issuer)
            self.intake.counts[issuer] = IssuerCounts()
        for key, data in rows.items():
            if key.startswith(f"{gateway}/record/"):
                location = self._append(gateway, data, arrived_ns)
                owned.records[location] = key
                self._to_show.append(ArchivedRecord(location, arrived_ns))
        for record in self._verifier.linked(issuer):
            self._append(gateway, record.data, arrived_ns)
        waiting = [key for key in rows if key.startswith(f"{gateway}/waiting/")]
        owned.waiting.update(waiting)
        self.take(ReceivedMessage(*cbor2.loads(rows[key])) for key in waiting)
        self.sync()

    def release(self, gateway: str) -> None:
        """Another worker goes on with it."""
        self._owned.pop(gateway, None)
        self.intake.counts.pop(ISSUER_PREFIX + gateway, None)

    def owns(self, gateway: str) -> bool:
        """Whether this worker goes on with a gateway."""
        return gateway in self._owned

    def parcel(self, names: Iterable[str]) -> Parcel:
        """What was archived of gateways since the last call, for a sink that stores rows."""
        ends = self.durable_ends()
        parcels = []
        for name in names:
            reader = self._owned[name].reader
            while found := reader.read({name: ends[name]} if name in ends else {}):
                parcels.append(reader.parcel(found, self.standing(each.place for each in found)))
        return Parcel(
            records=[each for parcel in parcels for each in parcel.records],
            anew=frozenset().union(*(parcel.anew for parcel in parcels)),
            fallen=[each for parcel in parcels for each in parcel.fallen], mark="",
        )  # fmt: skip

    def changed_rows(self, names: Iterable[str]) -> Rows:
        """The rows of gateways, of those that are stored already only what changed; None for one that is not needed."""
        rows: Rows = {}
        for name in names:
            self._add_changed(rows, name, self._owned[name])
        return rows

    def owned_issuers(self) -> Mapping[str, bool]:
        """See `RelayStore.owned_issuers`."""
        return {ISSUER_PREFIX + name: owned.was_running for name, owned in [*self._owned.items()]}

    def missing(self) -> list[Missing]:
        """See `RelayStore.missing`; of the gateways that this worker owns."""
        return [each for each in super().missing() if self.owns(each.issuer.removeprefix(ISSUER_PREFIX))]

    def _add_changed(self, rows: Rows, name: str, owned: _Owned) -> None:
        rows[name] = self._verifier.snapshot(without=self._waiting, issuer=ISSUER_PREFIX + name)
        needed = dict.fromkeys(owned.reader.needed())
        for location in needed.keys() - owned.records.keys():
            data = self._archive.read(location)
            owned.records[location] = key = f"{name}/record/{hashlib.sha256(data).hexdigest()}"
            rows[key] = data
        waiting = {
            f"{name}/waiting/{digest.hex()}": message
            for digest, message in self._waiting.on_topic(records_topic(name)).items()
        }
        rows.update({key: cbor2.dumps(list(waiting[key])) for key in waiting.keys() - owned.waiting})
        gone = [owned.records.pop(location) for location in owned.records.keys() - needed.keys()]
        # A record that came twice is needed at its newer place.
        rows.update(dict.fromkeys((*set(gone) - set(owned.records.values()), *owned.waiting - waiting.keys())))
        owned.waiting = set(waiting)

    def _append(self, gateway: str, data: bytes, arrived_ns: int) -> RecordLocation:
        frame = parse(data)
        digest = hashlib.sha256(data).digest()
        return self._archive.append(gateway, frame.epoch, frame.seq, digest, data, arrived_ns=arrived_ns)

    def _end_of(self, gateway: str) -> str:
        """The mark of a reader that begins behind what is archived of a gateway."""
        day, offset = self.durable_ends().get(gateway, ("", 0))
        changes = self._archive.directory / gateway / CHANGES
        noted = changes.stat().st_size // PLACE.itemsize if changes.exists() else 0
        return orjson.dumps({"at": {gateway: [day, offset, noted]}, "catalogues": {}}).decode()
