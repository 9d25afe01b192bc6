"""The readings of a range: how many were due, received, good, uncertain and bad, for each tag.

A reading counts for each tag each time it was read, whether it had moved and was stored again or not: each block says
which tags of its scan group are not good. Of a subscribed group each value that the device sent counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, Quality, SampleBlock, quality_of, status_codes
from edge.seal import CataloguePart, Data, Malformed, join_catalogue
from edge.seal.calibrations import DAY_NS
from edge.seal.data import NOTIFICATION
from edge.verify.window import Window

WAITING_BYTES = 32 * 2**20
_CODES_KEPT = 64
_CHANGES_KEPT = 4096
_NEVER = np.iinfo(np.int64).min

_Counts = NDArray[np.int64]


class _Group:
    """The readings of one scan group under one catalogue."""

    def __init__(self, group: CatalogueGroup) -> None:
        self.group = group
        self.scans = 0
        self.days: dict[int, tuple[int, int]] = {}  # When it was read first and last on each day since 1970, UTC.
        self.codes: dict[int, _Counts] = {}  # How often each tag had a status that is not good.
        self._first_ns = self._last_ns = _NEVER  # Of scans in which no tag was bad.
        self._firsts: _Counts | None = None
        self._lasts: _Counts | None = None
        self._received: _Counts | None = None

    @property
    def is_subscribed(self) -> bool:
        """Whether the device sends values when they change."""
        return self.group.sign_of_life_ns > 0 or self._received is not None

    @property
    def received(self) -> _Counts:
        """How many readings of each tag are on record."""
        counts = np.full(len(self.group.tags), self.scans, np.int64)
        return counts if self._received is None else counts + self._received

    def note_time(self, at_ns: int) -> None:
        """Count when it was read."""
        first, last = self.days.get(day := at_ns // DAY_NS, (at_ns, at_ns))
        self.days[day] = min(first, at_ns), max(last, at_ns)

    def note_scan(self, at_ns: int, status: Sequence[Sequence[int]]) -> None:
        """Count a scan: of tags that are not in `status` the value is good."""
        self.scans += 1
        bad = []
        for first, count, code, *_ in status:
            self._counts(code)[first : first + count] += 1
            if quality_of(code) is Quality.BAD:
                bad.append(slice(first, first + count))
        if bad:
            good = np.ones(len(self.group.tags), np.bool_)
            for each in bad:
                good[each] = False
            self._seen(np.flatnonzero(good), at_ns)
        else:
            self._first_ns = at_ns if self._first_ns == _NEVER else min(self._first_ns, at_ns)
            self._last_ns = max(self._last_ns, at_ns)

    def note_notification(self, at_ns: int, block: SampleBlock) -> None:
        """Count the values that a device sent; `status` counts them vector after vector."""
        members = self.group.layout.members
        parts = [members[at][where] for at, where in enumerate(block.positions or ()) if len(where)]
        if self._received is None:
            self._received = np.zeros(len(self.group.tags), np.int64)
        if not parts:
            return
        tags = np.concatenate(parts)
        np.add.at(self._received, tags, 1)
        codes = status_codes(block.status, len(tags))
        for code in np.unique(codes[codes != 0]).tolist():
            np.add.at(self._counts(code), tags[codes == code], 1)
        self._seen(np.unique(tags[codes < np.uint32(0x80000000)]), at_ns)

    def _counts(self, code: int) -> _Counts:
        counts = self.codes.get(code)
        if counts is None:
            if len(self.codes) >= _CODES_KEPT:  # A device may invent them.
                code = quality_of(code) << 30
            counts = self.codes.setdefault(code, np.zeros(len(self.group.tags), np.int64))
        return counts

    def _seen(self, tags: NDArray[np.intp], at_ns: int) -> None:
        if self._firsts is None or self._lasts is None:
            self._firsts = np.full(len(self.group.tags), -_NEVER - 1, np.int64)
            self._lasts = np.full(len(self.group.tags), _NEVER, np.int64)
        self._firsts[tags] = np.minimum(self._firsts[tags], at_ns)
        self._lasts[tags] = np.maximum(self._lasts[tags], at_ns)

    def times(self, tag: int) -> tuple[int, int] | None:
        """When a tag first and last had a value that is not bad."""
        spans = [] if self._first_ns == _NEVER else [(self._first_ns, self._last_ns)]
        if self._firsts is not None and self._lasts is not None and self._lasts[tag] != _NEVER:
            spans.append((int(self._firsts[tag]), int(self._lasts[tag])))
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


@dataclass(slots=True)
class TagReadings:
    """What became of one tag. `due` is None where the device sends values when they change."""

    device: str
    tag: CatalogueTag
    due: int | None = 0
    received: int = 0
    codes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    first_ns: int | None = None
    last_ns: int | None = None
    days: list[dict[int, tuple[int, int]]] = field(default_factory=list)

    def read_between(self, from_ns: int, to_ns: int) -> tuple[int, int] | None:
        """When its scan group was read first and last from a time on and before another one, by whole days."""
        spans = [(max(first, from_ns), min(last, to_ns)) for days in self.days for first, last in days.values()
                 if first < to_ns and last >= from_ns]  # fmt: skip
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    def of(self, quality: Quality) -> int:
        """How many readings have a quality."""
        if quality is Quality.GOOD:
            return self.received - sum(self.codes.values())
        return sum(count for code, count in self.codes.items() if quality_of(code) is quality)

    @property
    def reason(self) -> int:
        """The most frequent status code that is not good; bad ones first."""
        return max(self.codes, key=lambda code: (quality_of(code), self.codes[code]), default=0)


class _Waiting(NamedTuple):
    data: Data
    size_bytes: int


class Readings:
    """The readings of one gateway."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._parts: defaultdict[bytes, dict[int, CataloguePart]] = defaultdict(dict)
        self.catalogues: dict[bytes, Catalogue] = {}
        self._groups: dict[tuple[bytes, int], _Group] = {}
        self._waiting: defaultdict[bytes, list[_Waiting]] = defaultdict(list)
        self._waiting_bytes = 0
        self._in_force: list[tuple[int, bytes]] = []  # (UTC, catalogue) of the first record under each.
        self.not_counted = 0

    def note_catalogue(self, part: CataloguePart) -> None:
        """Take a part of a catalogue, which is sealed again each hour."""
        if part.digest in self.catalogues or not part.parts:
            return
        parts = self._parts[part.digest]
        parts[part.part] = part
        if len(parts) < part.parts:
            return
        try:
            self.catalogues[part.digest] = join_catalogue(parts.values())
        except Malformed:
            return  # Its records are not counted, and the report says so.
        finally:
            del self._parts[part.digest]
        for waiting in self._waiting.pop(part.digest, ()):
            self._waiting_bytes -= waiting.size_bytes
            self._note(waiting.data, self.catalogues[part.digest])

    def note_data(self, data: Data, size_bytes: int) -> None:
        """Take a record; of its blocks those in the range count."""
        if not self._in_force or self._in_force[-1][1] != data.catalogue:
            self._in_force.append((data.utc_ns, data.catalogue))
            if len(self._in_force) > _CHANGES_KEPT:
                self._in_force = self._catalogues_in_force()
        if self._window.side(0, data.utc_ns, data.until_ns) or not data.wire_blocks:
            return
        catalogue = self.catalogues.get(data.catalogue)
        if catalogue is not None:
            self._note(data, catalogue)
        elif self._waiting_bytes + size_bytes <= WAITING_BYTES:
            self._waiting[data.catalogue].append(_Waiting(data, size_bytes))
            self._waiting_bytes += size_bytes
        else:
            self.not_counted += 1

    def _note(self, data: Data, catalogue: Catalogue) -> None:
        blocks: Sequence[SampleBlock] = ()
        if any(wire[0] == NOTIFICATION for wire in data.wire_blocks):
            try:
                blocks = data.blocks(catalogue)
            except Malformed:
                self.not_counted += 1
                return
        for number, wire in enumerate(data.wire_blocks):
            at_ns = data.utc_ns + wire[2]
            if self._window.side(0, at_ns, at_ns) or wire[1] >= len(catalogue.groups):
                continue
            key = data.catalogue, wire[1]
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group(catalogue.groups[wire[1]])
            group.note_time(at_ns)
            if wire[0] == NOTIFICATION:
                group.note_notification(at_ns, blocks[number])
            else:
                group.note_scan(at_ns, wire[5])

    def close(self) -> None:
        """No record follows: what still waits for its catalogue is not counted."""
        self.not_counted += sum(map(len, self._waiting.values()))
        self._waiting.clear()

    def read_groups(self) -> set[tuple[str, str]]:
        """Device and name of each scan group with a block in the range."""
        return {(each.group.device, each.group.name) for each in self._groups.values()}

    def _catalogues_in_force(self) -> list[tuple[int, bytes]]:
        """Since when each catalogue was in force; records sent again may have come between later ones."""
        found: list[tuple[int, bytes]] = []
        for start_ns, digest in sorted(self._in_force):
            if not found or found[-1][1] != digest:
                found.append((start_ns, digest))
        return found

    def groups(self, from_ns: int, to_ns: int) -> Iterator[tuple[CatalogueGroup, int, int]]:
        """The scan groups that were to be read in a stretch of time: what, since when and until when."""
        starts = self._catalogues_in_force()
        for at, (start_ns, digest) in enumerate(starts):
            # The first catalogue held is taken to have been in force before.
            first = from_ns if at == 0 else max(from_ns, start_ns)
            last = min(to_ns, starts[at + 1][0] if at + 1 < len(starts) else to_ns)
            if first < last and digest in self.catalogues:
                yield from ((group, first, last) for group in self.catalogues[digest].groups)

    def tags(self, stretches: Iterable[tuple[CatalogueGroup, int, int]]) -> dict[tuple[str, str], TagReadings]:
        """Each tag that was to be read in stretches as `groups` gives them, in their order, by device and name."""
        found: dict[tuple[str, str], TagReadings] = {}
        due: defaultdict[tuple[str, str], int] = defaultdict(int)
        for group, first, last in stretches:
            for tag in group.tags:
                key = group.device, tag.name
                each = found.setdefault(key, TagReadings(group.device, tag))
                each.due = None if group.sign_of_life_ns else each.due
                due[key] += (last - first) // group.interval_ns
        for counted in self._groups.values():
            self._add(counted, found)
        for key, each in found.items():
            if each.due is not None:
                # Where the range begins within an interval there may be one reading more.
                each.due = max(due[key], each.received)
        return found

    def _add(self, counted: _Group, found: dict[tuple[str, str], TagReadings]) -> None:
        received = counted.received
        codes = {code: counts.tolist() for code, counts in counted.codes.items()}
        for number, tag in enumerate(counted.group.tags):
            each = found.setdefault((counted.group.device, tag.name), TagReadings(counted.group.device, tag))
            each.received += int(received[number])
            each.days.append(counted.days)
            if counted.is_subscribed:
                each.due = None
            for code, counts in codes.items():
                if counts[number]:
                    each.codes[code] += counts[number]
            if (times := counted.times(number)) is not None:
                first, last = times
                each.first_ns = first if each.first_ns is None else min(each.first_ns, first)
                each.last_ns = last if each.last_ns is None else max(each.last_ns, last)
