"""Where the forwarder takes records from: the buffer in five methods, read in pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

SEARCHED_LIMIT = 4096
"""How many records are searched for a CHECKPOINT; one is sealed each minute while data flow."""

_SEARCH_STEP = 64
_SEARCH_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024


class RecordSource(Protocol):
    """Stored records by number. Numbers are contiguous; the number of a dropped record stays unused."""

    def durable_end(self) -> int:
        """One more than the newest number that is safe on disk and may be sent. Called often: has to be cheap."""
        ...

    def oldest(self) -> int:
        """The oldest number that is still stored."""
        ...

    def undelivered(self) -> Iterable[tuple[int, int]]:
        """Stored records that were never acknowledged, as ascending (first, last). Called once, at the start."""
        ...

    async def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records from `number` on, or from the next one stored: at least one where there is one, all below
        `durable_end`, together at most `max_bytes` unless the first alone is larger."""
        ...

    def acknowledge(self, first: int, last: int) -> None:
        """[first, last] are delivered. May be called more than once for a record."""
        ...


class ReadAhead:
    """A few consecutive records of a source."""

    def __init__(self, source: RecordSource) -> None:
        self._source = source
        self._at: int | None = None
        self._end = 0
        self._records: deque[tuple[int, bytes]] = deque()

    def is_at(self, number: int) -> bool:
        """Whether `head` answers for a number: holds it, or is the next one stored."""
        return self._at == number

    async def fill(self, number: int) -> None:
        """Read from a number on."""
        end = self._source.durable_end()
        records = await self._source.read(number, _READ_BYTES)
        self._records = deque(records)
        self._at, self._end = number, end

    @property
    def head(self) -> tuple[int, bytes] | None:
        """The first record; None when nothing is stored from here on."""
        return self._records[0] if self._records else None

    def advance(self) -> None:
        """Remove the first record."""
        number, _ = self._records.popleft()
        self._at = number + 1 if self._records else None

    def skip(self) -> int:
        """Go on to the first record, or to the end of what was read; returns its number."""
        number = self._records[0][0] if self._records else self._end
        self._at = number if self._records else None
        return number

    def clear(self) -> None:
        """Remove all records."""
        self._at = None
        self._records.clear()


async def find_newest_checkpoint(
    source: RecordSource, end: int, is_checkpoint: Callable[[bytes], bool], known: int | None
) -> tuple[int, bytes] | None:
    """(number, record) of the newest CHECKPOINT before `end`; searched backwards down to `known`."""
    high = end
    lowest = max(source.oldest(), high - SEARCHED_LIMIT, known or 0)
    while high > lowest:
        low = max(lowest, high - _SEARCH_STEP)
        found = None
        at = low
        while at < high and (records := await source.read(at, _SEARCH_BYTES)):
            for number, record in records:
                if number < high and is_checkpoint(record):
                    found = number, record
            at = records[-1][0] + 1
        if found is not None:
            return found
        high = low
    return None
