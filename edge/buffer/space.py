"""The space of a buffer: which segments there are, where the next comes from, and which is freed or dropped first.

The oldest delivered segment is freed first, then the oldest undelivered one is dropped.
"""

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
_RESERVE_BYTES_LEAST = 256 << 10  # It holds a LOSS, a catalogue and a CHECKPOINT.


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLimits:
    """The limits of a buffer.

    Attributes:
        limit_bytes: size of all files together.
        free_space_bytes: free space left on the disk for other programs.
        keep_delivered_ns: how long delivered records are kept to be sent again, where there is room.
        memory_bytes: size of the records that wait in memory while the disk fails.
        reserve_bytes: size of the file reserved for events and losses on a full disk.
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
    """A segment on disk, with its size."""

    segment: Segment
    size_bytes: int
    modified_ns: int


class SegmentStorage:
    """The files of the buffer that take space. `segments` is oldest first."""

    def __init__(self, disk: Disk, limits: BufferLimits, segments: Sequence[Segment]) -> None:
        self._disk, self._limits = disk, limits
        self.segments = [self._measure(segment) for segment in segments]
        self._spare_bytes, self._reserve_bytes = self._size(SPARE), self._size(RESERVE)

    @property
    def used_bytes(self) -> int:
        """Size of all files."""
        return sum(stored.size_bytes for stored in self.segments) + self._spare_bytes + self._reserve_bytes

    @property
    def has_reserve(self) -> bool:
        """Whether space is reserved for events and losses."""
        return self._reserve_bytes > 0

    def with_ends(self, durable_end: int) -> Iterator[tuple[StoredSegment, int]]:
        """Each segment with one more than its last number."""
        ends = [stored.segment.number for stored in self.segments[1:]] + [durable_end]
        return zip(self.segments, ends, strict=True) if self.segments else iter(())

    def has_room(self) -> bool:
        """Whether another segment fits the limits."""
        return self._is_within(0 if self._spare_bytes else self._limits.segment_bytes)

    def create(self, segment: Segment, *, urgent: bool) -> File:
        """A file for the segment with its name durable: the spare, a new one or, if urgent, the reserve's space.

        Raises:
            OSError: the disk refused, or there is no room.
        """
        while self.segments and self.segments[-1].segment.number >= segment.number:
            self._unlink(self.segments[-1].segment.name)
            self.segments.pop()
        if not self.has_room():
            file = self._create(segment.name, self._release_reserve(urgent=urgent))
        elif self._spare_bytes:
            self._spare_bytes = 0
            self._disk.rename(SPARE, segment.name)
            file = self._disk.open(segment.name, writable=True)
            self._prepare(segment.name, file, self._limits.segment_bytes)
        else:
            file = self._create(segment.name, self._limits.segment_bytes)
        self.segments.append(StoredSegment(segment, file.size(), file.modified_ns()))
        return file

    def free(self, freed: Sequence[StoredSegment]) -> None:
        """Unlink these segments, but keep one as the spare: overwriting a file costs half the writes of a new one."""
        for stored in freed:
            is_whole = stored.size_bytes >= self._limits.segment_bytes
            if is_whole and not self._spare_bytes and self._is_within(0):
                self._disk.rename(stored.segment.name, SPARE)
                self._spare_bytes = stored.size_bytes
            else:
                self._unlink(stored.segment.name)
            self.segments.remove(stored)
        if freed:
            self._disk.sync_dir()

    def keep_reserve(self) -> None:
        """Reserve space for records that must be written on a full disk; on a small one a quarter of what is free."""
        wanted = self._limits.reserve_bytes
        if self._reserve_bytes or not wanted:
            return
        if not self._is_within(wanted):
            free_bytes = self.free_bytes() - self._limits.free_space_bytes
            wanted = min(wanted, free_bytes // 4, (self._limits.limit_bytes - self.used_bytes) // 4)
            if wanted < _RESERVE_BYTES_LEAST:
                return
        with contextlib.suppress(OSError):
            self._create(RESERVE, wanted).close()
            self._reserve_bytes = wanted

    def _create(self, name: str, size_bytes: int) -> File:
        self._unlink(name)  # A file left by an earlier attempt holds nothing durable.
        return self._prepare(name, self._disk.create(name), size_bytes)

    def _prepare(self, name: str, file: File, size_bytes: int) -> File:
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
            kept_bytes = self._limits.free_space_bytes
            raise OSError(errno.ENOSPC, f"no room for another segment beside free_space, {kept_bytes} bytes")
        self._unlink(RESERVE)
        size_bytes, self._reserve_bytes = self._reserve_bytes, 0
        return size_bytes

    def free_bytes(self) -> int:
        """What is free on the disk; 0 where it does not say."""
        try:
            return self._disk.free_bytes()
        except OSError:
            return 0

    def _is_within(self, more_bytes: int) -> bool:
        if self.used_bytes + more_bytes > self._limits.limit_bytes:
            return False
        try:
            return self._disk.free_bytes() - more_bytes >= self._limits.free_space_bytes
        except OSError:  # The next write there will report the error.
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
class RecordRun:
    """Adjacent records of one chain to be dropped undelivered; the hash is None where the last record is damaged."""

    epoch: bytes
    first_seq: int
    last_seq: int
    first: int
    last: int
    hash_of_last: bytes | None

    @property
    def records(self) -> int:
        """The number of records."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Drop:
    """A segment to be dropped although `runs` of it are undelivered; they are declared lost first."""

    segment: Segment
    end: int
    runs: tuple[RecordRun, ...]


class Retention:
    """Keeps a buffer within its limits."""

    def __init__(
        self, disk: Disk, limits: BufferLimits, storage: SegmentStorage, completed: CompletedNumbers
    ) -> None:  # fmt: skip
        self._disk, self._limits, self._storage, self._completed = disk, limits, storage, completed

    def trim(self, utc_ns: int, durable_end: int, is_closed: Callable[[StoredSegment], bool]) -> Drop | None:
        """Free delivered segments that are due; returns, without dropping it, a segment that must go undelivered."""
        completed = self._completed.numbers()
        closed = [(stored, end) for stored, end in self._storage.with_ends(durable_end) if is_closed(stored)]
        delivered = [stored for stored, end in closed if is_completed(stored, end, completed)]
        expired = [stored for stored in delivered if utc_ns - stored.modified_ns > self._limits.keep_delivered_ns]
        if expired or not self._storage.has_room():
            self._completed.sync_cursor()
        self._storage.free(expired)
        for oldest in (stored for stored in delivered if stored not in expired):
            if self._storage.has_room():
                break
            self._storage.free([oldest])
        if self._storage.has_room() or self._limits.when_full == "stop":
            return None
        return next((self._plan(stored, end, completed) for stored, end in closed if stored not in delivered), None)

    def records_to_drop(self, drop: Drop) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) of the records that would be dropped undelivered."""
        for number, data in read_records(self._disk, drop.segment, drop.end):
            if any(run.first <= number <= run.last for run in drop.runs):
                yield number, data

    def drop(self, drop: Drop) -> None:
        """Remove a segment whose loss is declared."""
        for run in drop.runs:
            self._completed.declare(run.first, run.last)
        self._storage.free([stored for stored in self._storage.segments if stored.segment == drop.segment])

    def undelivered_bytes(self, durable_end: int) -> int:
        """Size of the segments that hold undelivered records."""
        completed = self._completed.numbers()
        ends = self._storage.with_ends(durable_end)
        return sum(stored.size_bytes for stored, end in ends if not is_completed(stored, end, completed))

    def undelivered_records(self, durable_end: int) -> int:
        """Number of records on disk that the cursor on disk does not know as delivered, and that are not declared."""
        completed = self._completed.numbers()
        return sum(
            last - first + 1
            for stored, end in self._storage.with_ends(durable_end)
            for first, last in completed.missing(stored.segment.number, end - 1)
        )

    def _plan(self, stored: StoredSegment, end: int, completed: IntervalSet) -> Drop:
        segment = stored.segment
        lost = list(completed.missing(segment.number, end - 1))
        lasts = {last for _, last in lost}
        records = read_records(self._disk, segment, end)
        hashes = {number: sha256(data).digest() for number, data in records if number in lasts}
        runs = (
            RecordRun(segment.epoch, segment.seq_of(first), segment.seq_of(last), first, last, hashes.get(last))
            for first, last in lost
        )
        return Drop(segment, end, tuple(runs))


def is_completed(stored: StoredSegment, end: int, completed: IntervalSet) -> bool:
    """Whether every record of a segment is delivered or declared lost."""
    return not any(completed.missing(stored.segment.number, end - 1))
