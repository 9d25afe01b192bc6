"""What was acknowledged, remembered on disk: losing it means sending again, never losing a record.

Two slots of 4 kB are written in turn, each with a generation and a checksum, so that one whole slot always survives.
"""

from __future__ import annotations

import contextlib
import struct
import zlib

from edge.buffer.disk import Disk, File
from edge.intervals import Interval, IntervalSet

CURSOR = "cursor"
DECLARED = "declared"
SAVE_EVERY_NS = 5 * 10**9

_MAGIC = b"CUR1"
_SLOT_BYTES = 4096
_HEADER = struct.Struct("<4sIQI")  # magic, checksum of what follows it, generation, count
_CHECKED_FROM = 8
_INTERVAL = struct.Struct("<QQ")
_INTERVALS_LIMIT = (_SLOT_BYTES - _HEADER.size) // _INTERVAL.size


class Cursor:
    """A set of record numbers that survives a restart."""

    def __init__(self, disk: Disk, name: str = CURSOR) -> None:
        self._disk, self._name = disk, name
        self._generation, self.intervals = read_slots(disk, name)
        self._is_dirty = False
        self._saved_at_ns: int | None = None

    def add(self, first: int, last: int) -> None:
        """Remember [first, last]; it counts for other processes once saved."""
        self.intervals.add(first, last)
        self._is_dirty = True

    def save_if_due(self, now_ns: int) -> bool:
        """Save if something is new and the last attempt is 5 s ago; `now_ns` is any clock that never steps.

        Raises:
            OSError: the disk refused; the next call after 5 s tries again.
        """
        if not self._is_dirty or (self._saved_at_ns is not None and now_ns - self._saved_at_ns < SAVE_EVERY_NS):
            return False
        self._saved_at_ns = now_ns
        self.save()
        return True

    def save(self) -> None:
        """Make the set durable now; OSError when the disk refuses."""
        file = self._open()
        try:
            slot = _encode(self._generation + 1, self.intervals)
            file.write_at((self._generation + 1) % 2 * _SLOT_BYTES, slot)
            file.fdatasync()
        finally:
            file.close()
        self._generation += 1
        self._is_dirty = False

    def _open(self) -> File:
        try:
            return self._disk.open(self._name, writable=True)
        except FileNotFoundError:
            file = self._disk.create(self._name)
        try:
            file.allocate(2 * _SLOT_BYTES)
            file.fdatasync()
            self._disk.sync_dir()
        except OSError:
            file.close()
            raise
        return file


def read_slots(disk: Disk, name: str) -> tuple[int, IntervalSet]:
    """(generation, set) of the newest whole slot; an empty set when there is none."""
    try:
        file = disk.open(name)
    except OSError:
        return 0, IntervalSet()
    try:
        image = file.read_at(0, 2 * _SLOT_BYTES)
    except OSError:
        return 0, IntervalSet()
    finally:
        file.close()
    slots = (_decode(image[:_SLOT_BYTES]), _decode(image[_SLOT_BYTES:]))
    generation, intervals = max((slot for slot in slots if slot is not None), default=(0, []))
    return generation, IntervalSet(intervals)


def _encode(generation: int, intervals: IntervalSet) -> bytes:
    kept = intervals if len(intervals) <= _INTERVALS_LIMIT else intervals.longest(_INTERVALS_LIMIT)
    body = struct.pack("<QI", generation, len(kept)) + b"".join(_INTERVAL.pack(*interval) for interval in kept)
    return (_MAGIC + struct.pack("<I", zlib.crc32(body)) + body).ljust(_SLOT_BYTES, b"\0")


def _decode(slot: bytes) -> tuple[int, list[Interval]] | None:
    if len(slot) < _HEADER.size:
        return None
    magic, crc, generation, count = _HEADER.unpack_from(slot)
    end = _HEADER.size + count * _INTERVAL.size
    if magic != _MAGIC or end > len(slot) or zlib.crc32(slot[_CHECKED_FROM:end]) != crc:
        return None
    return generation, list(_INTERVAL.iter_unpack(slot[_HEADER.size : end]))


class CompletedNumbers:
    """The writer's view: the cursor is another's and only read, what was declared is its own."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._declared = Cursor(disk, DECLARED)

    def numbers(self) -> IntervalSet:
        """Both kinds."""
        return read_slots(self._disk, CURSOR)[1].union(self._declared.intervals)

    def declare(self, first: int, last: int) -> None:
        """A durable record says that [first, last] is lost."""
        self._declared.add(first, last)
        with contextlib.suppress(OSError):  # A loss that is declared twice is no harm.
            self._declared.save()

    def sync_cursor(self) -> None:
        """Make the cursor durable before anything is unlinked because of it."""
        with contextlib.suppress(FileNotFoundError):
            file = self._disk.open(CURSOR)  # Not for writing: it may be another user's.
            try:
                file.fdatasync()
            finally:
                file.close()
