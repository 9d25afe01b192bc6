"""Records that have a number and are not on disk yet; while the disk fails they are sent from here.

The newest that are on disk are kept as well: the uplink of the same process need not read them back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from threading import Lock

from edge.buffer.frame import HEADER
from edge.buffer.segment import Storable
from edge.intervals import IntervalSet

_RECENT_RECORDS = 64


class PendingRecords:
    """A queue in order of number; the store bounds it. One thread writes, any thread may read."""

    def __init__(self, first: int) -> None:
        self._lock = Lock()
        self._records: list[Storable] = []
        self._recent: deque[Storable] = deque(maxlen=_RECENT_RECORDS)
        self._acknowledged = IntervalSet()
        self._first = first
        self.size_bytes = 0
        self.is_readable = False
        """Whether readers are served from here: only while the disk fails."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def first(self) -> int:
        """Number of the oldest pending record, or of the next one to come."""
        return self._first

    @property
    def end(self) -> int:
        """One more than the last number assigned."""
        return self._first + len(self._records)

    def append(self, records: Sequence[Storable]) -> int:
        """Queue records; returns the number of the first."""
        with self._lock:
            first = self.end
            self._records.extend(records)
            self.size_bytes += stored_bytes(records)
            return first

    def head(self) -> Sequence[Storable]:
        """The pending records, oldest first; for the writing thread only."""
        return self._records

    def remove(self, count: int) -> None:
        """Remove the oldest `count` records, which are on disk."""
        with self._lock:
            self._recent.extend(self._records[:count])
            self._remove(count)

    def release_acknowledged(self) -> None:
        """Remove acknowledged records, so that delivery goes on while the disk fails for long."""
        with self._lock:
            count = 0
            while count < len(self._records) and self._first + count in self._acknowledged:
                count += 1
            self._recent.clear()  # They would no longer be those just before `first`.
            self._remove(count)
            self._acknowledged = IntervalSet(self._acknowledged.within(self._first, self.end - 1))

    def acknowledge(self, first: int, last: int) -> None:
        """Note that the broker acknowledged [first, last]."""
        if not self.is_readable:
            return
        with self._lock:
            if last >= self._first:
                self._acknowledged.add(max(first, self._first), last)

    def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records from this number on, at least one if there is any; empty while the disk works."""
        if not self.is_readable:
            return []
        with self._lock:
            at = max(0, number - self._first)
            return _within(max_bytes, self._first + at, islice(self._records, at, None))

    def has_recent(self, number: int) -> bool:
        """Whether `read_recent` has this record."""
        return self._first - len(self._recent) <= number < self._first

    def read_recent(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records from this number on that are on disk, from memory; empty where this one is not recent."""
        with self._lock:
            if not self.has_recent(number):
                return []
            at = number - self._first + len(self._recent)
            return _within(max_bytes, number, islice(self._recent, at, None))

    def _remove(self, count: int) -> None:
        self.size_bytes -= stored_bytes(self._records[:count])
        del self._records[:count]
        self._first += count


def _within(max_bytes: int, number: int, records: Iterable[Storable]) -> list[tuple[int, bytes]]:
    """The first of these records, with their numbers: at least one, together at most `max_bytes`."""
    found: list[tuple[int, bytes]] = []
    size_bytes = 0
    for each, record in enumerate(records, number):
        size_bytes += len(record.data)
        if found and size_bytes > max_bytes:
            break
        found.append((each, record.data))
    return found


def stored_bytes(records: Sequence[Storable]) -> int:
    """The size of records in a segment."""
    return sum(len(record.data) for record in records) + HEADER.size * len(records)
