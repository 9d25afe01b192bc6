"""What may stay, and what goes first when something must: the oldest delivered, then the oldest undelivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from edge.buffer.disk import Disk
from edge.buffer.intervals import Intervals
from edge.buffer.segment import Segment, read_records
from edge.buffer.settled import CompletedNumbers
from edge.buffer.shelf import Limits, SegmentStorage, StoredSegment


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring records of one chain that would go undelivered; the hash is None where the last is damaged."""

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


class Retention:
    """Keeps a buffer within its bounds."""

    def __init__(self, disk: Disk, limits: Limits, shelf: SegmentStorage, settled: CompletedNumbers) -> None:
        self._disk, self._limits, self._shelf, self._settled = disk, limits, shelf, settled

    def trim(self, utc_ns: int, durable_end: int, is_closed: Callable[[StoredSegment], bool]) -> Drop | None:
        """Free what was delivered and is due; what would have to go undelivered is only named."""
        settled = self._settled.numbers()
        closed = [(held, end) for held, end in self._shelf.ended(durable_end) if is_closed(held)]
        delivered = [held for held, end in closed if is_settled(held, end, settled)]
        expired = [held for held in delivered if utc_ns - held.modified_ns > self._limits.keep_delivered_ns]
        if expired or not self._shelf.has_next():
            self._settled.sync_cursor()
        self._shelf.free(lambda held: held in expired)
        for oldest in (held for held in delivered if held not in expired):
            if self._shelf.has_next():
                break
            self._shelf.free(lambda held, oldest=oldest: held is oldest)  # type: ignore[misc]
        if self._shelf.has_next() or self._limits.when_full == "stop":
            return None
        return next((self._plan(held, end, settled) for held, end in closed if held not in delivered), None)

    def doomed_records(self, drop: Drop) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) of what would go undelivered."""
        for number, data in read_records(self._disk, drop.segment, drop.end):
            if any(run.first <= number <= run.last for run in drop.runs):
                yield number, data

    def drop(self, drop: Drop) -> None:
        """Remove a segment whose loss is on record."""
        for run in drop.runs:
            self._settled.declare(run.first, run.last)
        self._shelf.free(lambda held: held.segment == drop.segment)

    def undelivered_bytes(self, durable_end: int) -> int:
        """Space taken by segments that hold something undelivered."""
        settled = self._settled.numbers()
        ended = self._shelf.ended(durable_end)
        return sum(held.size_bytes for held, end in ended if not is_settled(held, end, settled))

    def undelivered_records(self, durable_end: int) -> int:
        """Records on disk that are not known, on disk, to be delivered or declared."""
        settled = self._settled.numbers()
        return sum(
            last - first + 1
            for held, end in self._shelf.ended(durable_end)
            for first, last in settled.missing(held.segment.number, end - 1)
        )

    def _plan(self, held: StoredSegment, end: int, settled: Intervals) -> Drop:
        segment = held.segment
        lost = list(settled.missing(segment.number, end - 1))
        lasts = {last for _, last in lost}
        records = read_records(self._disk, segment, end)
        hashes = {number: sha256(data).digest() for number, data in records if number in lasts}
        return Drop(
            segment,
            end,
            tuple(
                Run(segment.epoch, segment.seq_of(first), segment.seq_of(last), first, last, hashes.get(last))
                for first, last in lost
            ),
        )


def is_settled(held: StoredSegment, end: int, settled: Intervals) -> bool:
    """Whether nobody waits for any record of it."""
    return not any(settled.missing(held.segment.number, end - 1))
