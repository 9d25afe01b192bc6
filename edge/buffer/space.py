"""The segments there are, the space they take, and where the next one comes from."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from edge.buffer.cursor import CompletedNumbers
from edge.buffer.disk import Disk, File
from edge.buffer.segment import Segment, read_records
from edge.intervals import IntervalSet

SPARE = "spare"
RESERVE = "reserve"
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
class StoredSegment:
    """A segment and what it takes."""

    segment: Segment
    size_bytes: int
    modified_ns: int


class SegmentStorage:
    """All files of the buffer that take space, oldest segment first."""

    def __init__(self, disk: Disk, limits: Limits, segments: Sequence[Segment]) -> None:
        self._disk, self._limits = disk, limits
        self.held = [self._measure(segment) for segment in segments]
        self._spare_bytes, self._reserve_bytes = self._size(SPARE), self._size(RESERVE)

    @property
    def used_bytes(self) -> int:
        """Space taken."""
        return sum(held.size_bytes for held in self.held) + self._spare_bytes + self._reserve_bytes

    @property
    def has_reserve(self) -> bool:
        """Whether events and losses have space of their own."""
        return self._reserve_bytes > 0

    def ended(self, durable_end: int) -> Iterator[tuple[StoredSegment, int]]:
        """Each segment with one more than its last number."""
        ends = [held.segment.number for held in self.held[1:]] + [durable_end]
        return zip(self.held, ends, strict=True) if self.held else iter(())

    def has_next(self) -> bool:
        """Whether there is, or may be made, one more segment."""
        return self._is_within(0 if self._spare_bytes else self._limits.segment_bytes)

    def make(self, segment: Segment, *, urgent: bool) -> File:
        """A file for the segment, synced and named durably: the spare, a new one or, if urgent, the reserve's space."""
        self._remove_from(segment.number)
        if not self.has_next():
            file = self._create(segment.name, self._release_reserve(urgent=urgent))
        elif self._spare_bytes:
            self._spare_bytes = 0
            self._disk.rename(SPARE, segment.name)
            file = self._disk.open(segment.name, writable=True)
            self._make_ready(segment.name, file, self._limits.segment_bytes)
        else:
            file = self._create(segment.name, self._limits.segment_bytes)
        self.held.append(StoredSegment(segment, file.size(), file.modified_ns()))
        return file

    def free(self, is_doomed: Callable[[StoredSegment], bool]) -> None:
        """Unlink, or keep one as the next segment: a file written in place costs the device half the writes."""
        doomed = [held for held in self.held if is_doomed(held)]
        for held in doomed:
            is_whole = held.size_bytes >= self._limits.segment_bytes
            if is_whole and not self._spare_bytes and self._is_within(0):
                self._disk.rename(held.segment.name, SPARE)
                self._spare_bytes = held.size_bytes
            else:
                self._unlink(held.segment.name)
            self.held.remove(held)
        if doomed:
            self._disk.sync_dir()

    def keep_reserve(self) -> None:
        """Hold some space back for the records that must be written on a full disk, if it can be had."""
        wanted = self._limits.reserve_bytes
        if not self._reserve_bytes and wanted and self._is_within(wanted):
            with contextlib.suppress(OSError):
                self._create(RESERVE, wanted).close()
                self._reserve_bytes = wanted

    def remove_from(self, number: int) -> None:
        """Unlink the segments that begin at or after a number."""
        self._remove_from(number)
        self._disk.sync_dir()

    def _remove_from(self, number: int) -> None:
        while self.held and self.held[-1].segment.number >= number:
            self._unlink(self.held[-1].segment.name)
            self.held.pop()

    def _create(self, name: str, size_bytes: int) -> File:
        self._unlink(name)  # What an earlier attempt left holds nothing durable.
        return self._make_ready(name, self._disk.create(name), size_bytes)

    def _make_ready(self, name: str, file: File, size_bytes: int) -> File:
        try:
            file.allocate(size_bytes)
            file.fdatasync()
            self._disk.sync_dir()
        except OSError:
            file.close()
            with contextlib.suppress(OSError):
                self._disk.unlink(name)
            raise
        return file

    def _release_reserve(self, *, urgent: bool) -> int:
        if not urgent or not self._reserve_bytes:
            raise OSError(errno.ENOSPC, "no room for another segment")
        self._unlink(RESERVE)
        size_bytes, self._reserve_bytes = self._reserve_bytes, 0
        return size_bytes

    def _is_within(self, more_bytes: int) -> bool:
        if self.used_bytes + more_bytes > self._limits.limit_bytes:
            return False
        try:
            return self._disk.free_bytes() - more_bytes >= self._limits.free_space_bytes
        except OSError:  # Not for us to judge: whoever writes there will learn.
            return True

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(name)

    def _measure(self, segment: Segment) -> StoredSegment:
        try:
            file = self._disk.open(segment.name)
        except OSError:
            return StoredSegment(segment, 0, 0)
        try:
            return StoredSegment(segment, file.size(), file.modified_ns())
        finally:
            file.close()

    def _size(self, name: str) -> int:
        try:
            file = self._disk.open(name)
        except OSError:
            return 0
        try:
            return file.size()
        finally:
            file.close()


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

    def records_to_drop(self, drop: Drop) -> Iterator[tuple[int, bytes]]:
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

    def _plan(self, held: StoredSegment, end: int, settled: IntervalSet) -> Drop:
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


def is_settled(held: StoredSegment, end: int, settled: IntervalSet) -> bool:
    """Whether nobody waits for any record of it."""
    return not any(settled.missing(held.segment.number, end - 1))
