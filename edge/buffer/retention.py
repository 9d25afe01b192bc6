"""What may stay, and what goes first when something must."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.buffer.intervals import Intervals
from edge.buffer.segment import Segment

RESERVE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a buffer.

    Attributes:
        limit_bytes: all files together.
        free_space_bytes: what is left to others on the disk.
        keep_delivered_ns: how long delivered records stay for replay, where there is room.
        memory_bytes: how much waits in memory while the disk does not work.
        reserve_bytes: kept back for events and losses on a full disk.
    """

    limit_bytes: int = 20 * 10**9
    free_space_bytes: int = 0
    keep_delivered_ns: int = 72 * 3600 * 10**9
    when_full: Literal["drop_oldest", "stop"] = "drop_oldest"
    segment_bytes: int = 16 << 20
    memory_bytes: int = 32 << 20
    reserve_bytes: int = RESERVE_BYTES


@dataclass(slots=True)
class Held:
    """A segment and what it takes."""

    segment: Segment
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring records of one chain that would go undelivered."""

    epoch: bytes
    first_seq: int
    last_seq: int
    first: int
    last: int
    hash_of_last: bytes | None

    @property
    def records(self) -> int:
        """How many."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Drop:
    """A segment that must go although not all of it was delivered; it goes only after its runs were declared."""

    segment: Segment
    end: int
    runs: tuple[Run, ...]


def delivered_by_age(closed: Sequence[tuple[Held, int]], settled: Intervals) -> Iterator[Held]:
    """Segments of which every record was delivered or declared, oldest first."""
    return (held for held, end in closed if not any(settled.missing(held.segment.number, end - 1)))


def is_expired(held: Held, utc_ns: int, limits: Limits) -> bool:
    """Whether it was kept for replay long enough."""
    return utc_ns - held.modified_ns > limits.keep_delivered_ns
