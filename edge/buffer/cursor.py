"""Record numbers that need no further delivery, on disk: acknowledged by the broker, or declared lost.

A lost cursor means that records are sent again, never that one is lost. Two slots of 4 kB are written in
turn, each with a generation and a checksum, so that one intact slot always survives.
"""

from __future__ import annotations

import contextlib
import struct
import zlib

from edge.buffer.disk import CURSOR, Disk, File
from edge.intervals import Interval, IntervalSet

DECLARED = "declared"

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

    def add(self, first: int, last: int) -> None:
        """Add [first, last]; other processes see it once saved."""
        self.intervals.add(first, last)

    def save(self) -> None:
        """Make the set durable; raises OSError when the disk refuses."""
        file = self._open()
        try:
            slot = _encode(self._generation + 1, self.intervals)
            file.write_at((self._generation + 1) % 2 * _SLOT_BYTES, slot)
            file.fdatasync()
        finally:
            file.close()
        self._generation += 1

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
    """(generation, set) of the newest intact slot; an empty set when no slot is intact."""
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
    saved = intervals if len(intervals) <= _INTERVALS_LIMIT else intervals.longest(_INTERVALS_LIMIT)
    body = struct.pack("<QI", generation, len(saved)) + b"".join(_INTERVAL.pack(*interval) for interval in saved)
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
    """Record numbers that need no further delivery: the sender's cursor, which is only read, and `declared`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._declared = Cursor(disk, DECLARED)

    def numbers(self) -> IntervalSet:
        """The numbers acknowledged or declared lost."""
        return read_slots(self._disk, CURSOR)[1].union(self._declared.intervals)

    def declare(self, first: int, last: int) -> None:
        """Remember that a durable record declares [first, last] lost."""
        self._declared.add(first, last)
        with contextlib.suppress(OSError):  # A loss that is declared twice does no harm.
            self._declared.save()

    def sync_cursor(self) -> None:
        """Make the cursor durable before a segment is unlinked because of it."""
        with contextlib.suppress(FileNotFoundError):
            file = self._disk.open(CURSOR)  # Read-only: it may belong to another user.
            try:
                file.fdatasync()
            finally:
                file.close()
