"""A sink's own reader of the archive: from a mark on, in the order of arrival, at the pace of the sink."""

# Theory of operation
#
# The reader follows the indexes of the day files, and takes only what is durable. Whether a record counts is asked for
# a parcel at a time, of the verifier of the relay: it judged them when they came, and knows what changed since.
#
# A verdict that changes later is in the file of changes of the gateway. Its place is looked at again: what stands there
# now is delivered anew, or what was delivered is marked. Of several records archived for one place only the last can
# stand: an earlier one has fallen, or the place is a fork.
#
# A DATA record waits here until its catalogue came. The mark stays in front of what waits, so that a restart reads it
# again; what was delivered behind it then comes twice, and the sink has it already.

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from edge.logs import get_logger
from edge.model import Catalogue
from edge.relay.archive import ENTRY_BYTES, INDEX, RecordLocation, days, make_index
from edge.relay.changes import CHANGES, PLACE
from edge.relay.follow import Catalogues
from edge.relay.sinks.sink import Parcel, Place, SinkRecord
from edge.seal import CataloguePart, Data, Envelope, Garbage, Malformed, Unknown, decode_frame, parse
from edge.verify import Verdict

log = get_logger(__name__)

PARCEL_BYTES = 4 * 2**20
PARCEL_RECORDS = 4000
WAITING_RECORDS = 10_000


class Entry(NamedTuple):
    """A record of the archive, by its index; `epoch` is the number that the index has for it."""

    location: RecordLocation
    epoch: int
    seq: int
    hash: bytes

    @property
    def place(self) -> Place:
        """The place of its chain."""
        return Place(self.location.gateway, self.epoch.to_bytes(8, "little"), self.seq)


class Found(NamedTuple):
    """A record that may count, or a place where none is any more; `is_again`: its verdict changed after it came."""

    place: Place
    entry: Entry | None
    frame: Envelope | None
    is_again: bool


class _Position(NamedTuple):
    """Up to where a gateway was read: in its records, and in its changes."""

    day: str = ""
    offset: int = 0
    changes: int = 0


class Reader:
    """What follows a mark in an archive, in parcels. It reads files, and belongs to one thread.

    Attributes:
        skipped: records that no sink can take: damaged on disk, or their catalogue never came.
    """

    def __init__(self, directory: Path, mark: str) -> None:
        self._directory = directory
        self._catalogues = Catalogues()
        self._held: dict[Entry, bytes] = {}  # The catalogue that each waits for.
        self._due: deque[Entry] = deque()  # Of those held: it came.
        self._changed: dict[str, set[tuple[int, int]]] = {}
        self.skipped = 0
        self._at, catalogues = _parsed(mark)
        for gateway, locations in catalogues.items():
            for location in locations:
                self._learn(RecordLocation(gateway, *location))

    def read(self, ends: Mapping[str, tuple[str, int]]) -> list[Found]:
        """The next records up to `ends`, and places that changed; none where nothing follows."""
        found: list[Found] = []
        while self._due and len(found) < PARCEL_RECORDS:
            found += self._fetch([self._due.popleft()])
        room = PARCEL_BYTES
        for gateway, end in sorted(ends.items(), key=lambda each: self._at.get(each[0], _Position())):
            found += self._changes_of(gateway)
            if room > 0 and len(found) < PARCEL_RECORDS:
                entries = self._following(gateway, end, room, PARCEL_RECORDS - len(found))
                room -= sum(entry.location.length for entry in entries)
                found += self._fetch(self._latest(gateway, entries))
        return found

    def parcel(self, found: Sequence[Found], verdicts: Sequence[Verdict]) -> Parcel:
        """What a sink writes of them, by the verdict on what stands at each place."""
        records: dict[Place, SinkRecord] = {}
        anew, fallen = set(), {}
        for each, verdict in zip(found, verdicts, strict=True):
            if verdict is not Verdict.AUTHENTIC:
                if each.is_again:
                    fallen[each.place] = verdict
                if each.entry is not None:
                    self._held.pop(each.entry, None)
            elif each.frame is not None and each.entry is not None:
                record = self._decoded(each.entry, each.frame)
                if record is not None:
                    records[each.place] = record
                    if each.is_again:
                        anew.add(each.place)
        self._skip_oldest()
        return Parcel(records=list(records.values()), anew=frozenset(anew), fallen=list(fallen.items()), mark=self.mark)

    @property
    def mark(self) -> str:
        """What the next reader begins with."""
        first = dict.fromkeys(self._at, _Position("9999"))
        for location, *_ in self._held:
            first[location.gateway] = min(first[location.gateway], _Position(location.day, location.offset))
        at = {
            gateway: [*min((at.day, at.offset), first[gateway][:2]), at.changes] for gateway, at in self._at.items()
        }  # fmt: skip
        catalogues: dict[str, list[list[object]]] = {}
        for location in self._catalogues.locations():
            catalogues.setdefault(location.gateway, []).append([*location[1:]])
        return orjson.dumps({"at": at, "catalogues": catalogues}).decode()

    def needed(self) -> list[RecordLocation]:
        """Records that a reader which begins here would lack: parts of catalogues, and what waits for one."""
        return [*self._catalogues.locations(), *(entry.location for entry in self._held)]

    def _following(self, gateway: str, end: tuple[str, int], room: int, count: int) -> list[Entry]:
        """The next records of a gateway; at the end of a day it goes on with the next one."""
        at = self._at.setdefault(gateway, _Position())
        for path in days(self._directory / gateway):
            day = path.stem
            if not at.day <= day <= end[0]:
                continue
            index = _index(path, end[1] if day == end[0] else path.stat().st_size)
            ends, first = index["offset"] + index["length"], 0
            if day == at.day and at.offset:
                # What retention left of a day, or another file, is read from its beginning.
                where = int(np.searchsorted(ends, at.offset))
                first = where + 1 if where < len(ends) and ends[where] == at.offset else 0
            taken = index[first : first + count]
            within = int(np.searchsorted(np.cumsum(taken["length"], dtype=np.int64), room, "right"))
            found = _listed(gateway, day, taken[: max(1, within)])
            if found:
                last = found[-1].location
                self._at[gateway] = _Position(day, last.offset + last.length, at.changes)
                return found
        return []

    def _fetch(self, entries: Iterable[Entry], *, is_again: bool = False) -> list[Found]:
        """Records as they are in their files; what is not as it was archived is skipped."""
        found = []
        for day, same in groupby(entries, lambda entry: entry.location[:2]):
            path = self._directory / day[0] / f"{day[1]}.rec"
            with path.open("rb") as file:
                for entry in same:
                    data = os.pread(file.fileno(), entry.location.length, entry.location.offset)
                    with suppress(Garbage):
                        if hashlib.sha256(data).digest() == entry.hash:
                            found.append(Found(entry.place, entry, parse(data), is_again))
                            continue
                    self._skip(entry, "it is not the record that was verified when it arrived")
        return found

    # Verdicts that changed

    def _changes_of(self, gateway: str) -> list[Found]:
        """The places of a gateway that changed since, each with the record that was archived there last."""
        at = self._at.setdefault(gateway, _Position())
        path = self._directory / gateway / CHANGES
        if not path.exists() or path.stat().st_size < (at.changes + 1) * PLACE.itemsize:
            return []
        changed = [(int(epoch), int(seq)) for epoch, seq in np.fromfile(path, PLACE).tolist()]
        self._changed[gateway] = set(changed)
        places = changed[at.changes : at.changes + PARCEL_RECORDS]
        self._at[gateway] = at._replace(changes=at.changes + len(places))
        last = self._last_at(gateway, places)
        gone = [Place(gateway, epoch.to_bytes(8, "little"), seq) for epoch, seq in {*places} - {*last}]
        return self._fetch(last.values(), is_again=True) + [Found(place, None, None, is_again=True) for place in gone]

    def _latest(self, gateway: str, entries: list[Entry]) -> list[Entry]:
        """Without those that another record followed at their place."""
        changed = self._changed.get(gateway, ())
        doubtful = [(entry.epoch, entry.seq) for entry in entries if (entry.epoch, entry.seq) in changed]
        if not doubtful:
            return entries
        last = self._last_at(gateway, doubtful)
        return [entry for entry in entries if last.get((entry.epoch, entry.seq), entry) == entry]

    def _last_at(self, gateway: str, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Entry]:
        """The record that was archived last at each of these places."""
        found = {}
        numbers = np.array([seq for _, seq in places], np.uint64)
        for path in days(self._directory / gateway):
            index = _index(path, path.stat().st_size)
            for entry in _listed(gateway, path.stem, index[np.isin(index["seq"], numbers)]):
                found[entry.epoch, entry.seq] = entry
        return {place: found[place] for place in dict.fromkeys(places) if place in found}

    # Contents

    def _decoded(self, entry: Entry, frame: Envelope) -> SinkRecord | None:
        """The content of a record; None where it waits, or nobody can read it."""
        unknown = Unknown()
        try:
            content = decode_frame(frame, unknown, is_verified=True)
            catalogue: Catalogue | None = None
            if isinstance(content, CataloguePart):
                if self._catalogues.add(content, entry.location):
                    self._due.extend(each for each, wanted in self._held.items() if wanted == content.digest)
            elif isinstance(content, Data) and content.wire_blocks:
                catalogue = self._catalogues.get(content.catalogue)
                if catalogue is None:
                    self._held[entry] = content.catalogue
                    return None
                content.blocks(catalogue)  # Whether they fit to it.
        except Malformed as error:
            self._skip(entry, str(error))
            return None
        self._held.pop(entry, None)
        return SinkRecord(
            place=entry.place, type=frame.type, content=content, catalogue=catalogue, has_unknown=bool(unknown.words)
        )

    def _learn(self, location: RecordLocation) -> None:
        """Know a catalogue again that came before the mark."""
        path = self._directory / location.gateway / f"{location.day}.rec"
        with suppress(OSError, Garbage, Malformed), path.open("rb") as file:  # It may have been removed since.
            content = decode_frame(parse(os.pread(file.fileno(), location.length, location.offset)))
            if isinstance(content, CataloguePart):
                self._catalogues.add(content, location)

    def _skip_oldest(self) -> None:
        for entry in list(islice(self._held, max(0, len(self._held) - WAITING_RECORDS))):
            self._skip(entry, "its catalogue never came")

    def _skip(self, entry: Entry, reason: str) -> None:
        self._held.pop(entry, None)
        self.skipped += 1
        log.error("record not for a sink", gateway=entry.location.gateway, epoch=entry.place.epoch.hex(),
                  seq=entry.seq, reason=reason)  # fmt: skip


def _parsed(mark: str) -> tuple[dict[str, _Position], dict[str, list[Any]]]:
    kept = orjson.loads(mark) if mark else {"at": {}, "catalogues": {}}
    return {gateway: _Position(*at) for gateway, at in kept["at"].items()}, kept["catalogues"]


def bytes_after(directory: Path, mark: str, ends: Mapping[str, tuple[str, int]]) -> int:
    """How much of the archive follows a mark, up to `ends`."""
    positions, _ = _parsed(mark)
    total = 0
    for gateway, (day, end) in ends.items():
        at = positions.get(gateway, _Position())
        for path in days(directory / gateway):
            if at.day <= path.stem <= day:
                size = end if path.stem == day else path.stat().st_size
                total += max(0, size - at.offset) if path.stem == at.day else size
    return total


def _index(path: Path, end: int) -> NDArray[Any]:
    """The index of a day file up to an offset; made anew where a copy of the archive came without it."""
    file = path.with_suffix(".idx")
    count = file.stat().st_size // ENTRY_BYTES if file.exists() else 0
    index: NDArray[Any] = np.memmap(file, INDEX, "r", shape=(count,)) if count else np.empty(0, INDEX)
    if end and (not count or int(index[-1]["offset"]) + int(index[-1]["length"]) < end):
        index = np.frombuffer(b"".join(entry.pack() for entry in make_index(path)), INDEX)
    return index[: int(np.searchsorted(index["offset"], end))]


def _listed(gateway: str, day: str, index: NDArray[Any]) -> list[Entry]:
    return [
        Entry(RecordLocation(gateway, day, offset, length), epoch, seq, digest)
        for epoch, seq, offset, length, digest, _ in index.tolist()
    ]
