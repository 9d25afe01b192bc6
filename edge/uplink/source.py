"""Where the forwarder takes records from: the buffer, seen through five questions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Source(Protocol):
    """Stored records by number; numbers are contiguous, and a dropped record leaves its number unused."""

    def durable_end(self) -> int:
        """One more than the newest number that is safe on disk and may be sent. Cheap: asked all the time."""
        ...

    def oldest(self) -> int:
        """The oldest number that is still stored."""
        ...

    def undelivered(self) -> Iterable[tuple[int, int]]:
        """What is stored and was never acknowledged, as ascending (first, last). Asked once, at the start."""
        ...

    async def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records from `number` on, or from the next one stored: at least one where there is one, all below
        `durable_end`, together at most `max_bytes` unless the first alone is larger."""
        ...

    def acknowledge(self, first: int, last: int) -> None:
        """[first, last] are delivered. May be told more than once of the same record."""
        ...
