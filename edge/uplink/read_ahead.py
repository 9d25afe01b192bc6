"""Reads records from the source in pieces, one lane at a time."""

from __future__ import annotations

from collections import deque

from edge.uplink.source import Source

_PIECE_BYTES = 256 * 1024


class ReadAhead:
    """A few records from one number on."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at: int | None = None
        self._end = 0
        self._records: deque[tuple[int, bytes]] = deque()

    def is_at(self, number: int) -> bool:
        """Whether what is held starts at a number."""
        return self._at == number

    async def fill(self, number: int) -> None:
        """Read from a number on."""
        end = self._source.durable_end()
        records = await self._source.read(number, _PIECE_BYTES)
        self._records = deque(records)
        self._at, self._end = number, end

    @property
    def head(self) -> tuple[int, bytes] | None:
        """The first record held; None when nothing is stored from here on."""
        return self._records[0] if self._records else None

    def advance(self) -> None:
        """Done with the first record."""
        number, _ = self._records.popleft()
        self._at = number + 1 if self._records else None

    def skip(self) -> int:
        """Go on to the first record held, or to where looking ended; returns its number."""
        number = self._records[0][0] if self._records else self._end
        self._at = number if self._records else None
        return number

    def clear(self) -> None:
        """Forget what is held."""
        self._at = None
        self._records.clear()
