"""The segments there are, the space they take, and where the next one comes from."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.buffer.disk import Disk, File
from edge.buffer.segment import Segment

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
