"""The buffer's one writer: append, then commit with one write and one sync.

A file whose sync failed is never synced again: what was not durable is written from memory into a fresh one. When that
fails too the store keeps records in memory, bounded, and tries the disk again each second.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edge.buffer.cursor import CompletedNumbers
from edge.buffer.disk import Disk, File
from edge.buffer.frame import HEADER, RECORD_BYTES_LIMIT, encode
from edge.buffer.pending import PendingRecords, stored_bytes
from edge.buffer.recovery import Inspection, Recovery, recover
from edge.buffer.segment import Damage, Segment, Storable
from edge.buffer.space import Drop, Limits, Retention, SegmentStorage, StoredSegment
from edge.buffer.watermark import Watermark, WatermarkWriter
from edge.errors import BufferFull

RETRY_NS = 10**9
_HIGH_PERCENTS = (95, 85, 70)
EventData = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class BufferEvent:
    """Something the operator should know, once: an event kind and its data."""

    kind: str
    data: EventData = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the buffer is. Numbers below `oldest` are gone, those below `durable_end` are on disk.

    `oldest_epoch` and `oldest_seq` name the oldest record in its chain; empty and 0 in an empty buffer. What was
    acknowledged within the resend window still counts as undelivered.
    """

    used_bytes: int
    undelivered_bytes: int
    undelivered_records: int
    limit_bytes: int
    oldest: int
    oldest_epoch: bytes
    oldest_seq: int
    durable_end: int
    memory_bytes: int
    is_in_memory: bool


@dataclass(slots=True)
class _Active:
    """The segment being written."""

    segment: Segment
    file: File
    offset: int
    size_bytes: int

    def takes(self, number: int, record: Storable, offset: int) -> bool:
        """Whether the record is the next of this segment and fits at `offset`."""
        return (
            record.epoch == self.segment.epoch
            and record.seq == self.segment.seq_of(number)
            and offset + HEADER.size + len(record.data) <= self.size_bytes
        )


class Store:
    """Records on a disk. For one thread; see `BufferWriter` for asyncio."""

    def __init__(self, disk: Disk, limits: Limits, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Open the buffer; what was found is in `recovery`."""
        self._disk, self._limits, self._monotonic_ns = disk, limits, monotonic_ns
        self._mark, self._boot_id = WatermarkWriter(disk), disk.boot_id()
        self._events: list[BufferEvent] = []
        self._active: _Active | None = None
        self._failed_at_ns: int | None = None
        self.is_out_of_room = False
        self._is_urgent = False
        self._high_percent = 0
        self._settled = CompletedNumbers(disk)
        self.recovery: Recovery = recover(disk, self._settled)
        self.pending = PendingRecords(self.recovery.end)
        self._shelf = SegmentStorage(disk, limits, self.recovery.segments)
        self._retention = Retention(disk, limits, self._shelf, self._settled)
        self._inspection = Inspection(disk, self._shelf, self._settled, list(self.recovery.unread))
        self._continue_newest()
        if not self.is_in_memory:
            self._shelf.keep_reserve()
        self._note_damages(self.recovery.damages)

    # Writing

    @property
    def durable_end(self) -> int:
        """Every record with a lower number is on disk, or is not to be expected any more."""
        return self.pending.first

    @property
    def is_in_memory(self) -> bool:
        """Whether the disk does not work, and records wait in memory."""
        return self._failed_at_ns is not None

    def append(self, records: Sequence[Storable], *, urgent: bool = False) -> int:
        """Take records for the next commit; the number of the first.

        Args:
            urgent: events and losses: they may use the reserve on a full disk.

        Raises:
            BufferFull: none was taken; their seq must be declared lost.
        """
        needed_bytes = stored_bytes(records)
        if any(len(record.data) > RECORD_BYTES_LIMIT for record in records):
            raise ValueError(f"a record is longer than {RECORD_BYTES_LIMIT} bytes")
        if self.is_in_memory:
            self._make_room_in_memory(needed_bytes, urgent=urgent)
        elif not urgent and self._limits.when_full == "stop" and not self._has_room(needed_bytes):
            raise BufferFull(
                "the buffer is full and its policy is to stop: raise its limit, or let the uplink drain it"
            )
        self._is_urgent = self._is_urgent or urgent
        return self.pending.append(records)

    def commit(self) -> bool:
        """Make everything appended durable; False when it could only be kept in memory."""
        if self.is_in_memory and not self._is_retry_due():
            self._publish()
            return False
        try:
            self._write_or_rewrite()
        except OSError as error:
            self._to_memory(error)
        else:
            self._is_urgent = False
            self._to_disk()
        self._publish()
        return not self.is_in_memory

    def take_events(self) -> list[BufferEvent]:
        """What changed since the last call."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Give the files back; what was not committed is not kept."""
        self._drop_active()
        self._mark.close()

    def _write_or_rewrite(self) -> None:
        try:
            self._write_waiting()
        except OSError as error:
            if self.is_in_memory or self._active is None:
                raise
            self._events.append(
                BufferEvent("buffer.fsync", {"segment": self._active.segment.name, "error": str(error)})
            )
            self._drop_active()
            self._write_waiting()

    def _write_waiting(self) -> None:
        while len(self.pending):
            active = self._active
            if active is None or not active.takes(self.pending.first, self.pending.head()[0], active.offset):
                active = self._rotate(self.pending.head()[0])
            frames = self._fitting(active)
            self._write(active, b"".join(frames))
            self.pending.remove(len(frames))

    def _fitting(self, active: _Active) -> list[bytes]:
        """Frames of what waits, as far as they belong into the segment and fit."""
        frames: list[bytes] = []
        offset = active.offset
        for number, record in enumerate(self.pending.head(), self.pending.first):
            if not active.takes(number, record, offset):
                break
            frames.append(encode(record.epoch, record.seq, record.data))
            offset += len(frames[-1])
        return frames

    def _write(self, active: _Active, frames: bytes) -> None:
        active.file.write_at(active.offset, frames)
        active.file.fdatasync()
        if not active.file.is_linked():
            raise FileNotFoundError(errno.ENOENT, "the segment was removed while it was written")
        active.offset += len(frames)

    def _rotate(self, record: Storable) -> _Active:
        """Create, sync, sync the directory, then use."""
        self._finish_active()
        segment = Segment(self.pending.first, record.epoch, record.seq)
        file = self._shelf.make(segment, urgent=self._is_urgent)
        self._active = _Active(segment, file, 0, file.size())
        return self._active

    def _finish_active(self) -> None:
        """Give back the space that the segment being left does not use."""
        active = self._active
        if active is not None and active.size_bytes - active.offset > RECORD_BYTES_LIMIT:
            active.file.truncate(active.offset)
            self._shelf.held[-1].size_bytes = active.offset
        self._drop_active()

    def _drop_active(self) -> None:
        if self._active is not None:
            self._active.file.close()
            self._active = None

    # Start

    def _continue_newest(self) -> None:
        """Write and sync again what a killed process may have left unsynced, before anybody is told of it.

        After a failed sync the page cache shows what the disk does not have, and another sync would say nothing.
        """
        if not self._shelf.held:
            self._publish()
            return
        newest = self._shelf.held[-1]
        try:
            file = self._disk.open(newest.segment.name, writable=True)
            try:
                offset = self.recovery.unsynced_offset
                unsynced = file.read_at(offset, self.recovery.offset - offset)
                if unsynced:
                    file.write_at(offset, unsynced)
                file.fdatasync()
                self._disk.sync_dir()
            except OSError:
                file.close()
                raise
        except OSError as error:
            self._to_memory(error)
        else:
            self._active = _Active(newest.segment, file, self.recovery.offset, newest.size_bytes)
        self._publish()

    def cut_tail(self, number: int) -> None:
        """Take back records from this number on, as found at the start, because their signatures are not good.

        Their numbers are not used again: a cursor may know them.
        """
        self._drop_active()
        self._shelf.remove_from(number)
        if self._shelf.held:
            newest = self._shelf.held[-1]
            file = self._disk.open(newest.segment.name, writable=True)
            try:
                ends = [frame.end for frame in newest.segment.frames(file, newest.segment.number, number)]
                newest.size_bytes = ends[-1] if ends else 0
                file.truncate(newest.size_bytes)
                file.fdatasync()
            finally:
                file.close()
        self._settled.declare(number, self.durable_end - 1)
        self.recovery = recover(self._disk, self._settled)

    # Memory mode

    def _to_memory(self, error: OSError) -> None:
        self._drop_active()
        if self._failed_at_ns is None:
            self._events.append(BufferEvent("buffer.memory", {"is_in_memory": True, "error": str(error)}))
        self._failed_at_ns = self._monotonic_ns()
        self.is_out_of_room = error.errno == errno.ENOSPC
        self.pending.is_readable = True

    def _to_disk(self) -> None:
        if self._failed_at_ns is not None:
            self._failed_at_ns = None
            self.is_out_of_room = False
            self.pending.is_readable = False
            self._events.append(BufferEvent("buffer.memory", {"is_in_memory": False}))
            self._shelf.keep_reserve()

    def _is_retry_due(self) -> bool:
        has_reserve = self._is_urgent and self._shelf.has_reserve
        return has_reserve or self._monotonic_ns() - (self._failed_at_ns or 0) >= RETRY_NS

    def _make_room_in_memory(self, needed_bytes: int, *, urgent: bool) -> None:
        # As on disk, there is a reserve for what declares the rest.
        limit_bytes = self._limits.memory_bytes + (self._limits.reserve_bytes if urgent else 0)
        if self.pending.size_bytes + needed_bytes > limit_bytes:
            self.pending.release_acknowledged()
        if self.pending.size_bytes + needed_bytes > limit_bytes:
            raise BufferFull("the buffer's disk takes nothing, and the memory kept for that is full: see to the disk")

    def _publish(self) -> None:
        used_end = self.pending.end if self.is_in_memory else self.durable_end
        self._mark.publish(Watermark(self.durable_end, used_end, self._boot_id))

    # Bounds

    def usage(self) -> Usage:
        """How full the buffer is."""
        held = self._shelf.held
        return Usage(
            used_bytes=self._shelf.used_bytes,
            undelivered_bytes=self._retention.undelivered_bytes(self.durable_end),
            undelivered_records=self._retention.undelivered_records(self.durable_end),
            limit_bytes=self._limits.limit_bytes,
            oldest=held[0].segment.number if held else self.durable_end,
            oldest_epoch=held[0].segment.epoch if held else b"",
            oldest_seq=held[0].segment.seq if held else 0,
            durable_end=self.durable_end,
            memory_bytes=self.pending.size_bytes,
            is_in_memory=self.is_in_memory,
        )

    def trim(self, utc_ns: int) -> Drop | None:
        """Free what was delivered and is due; a segment that must go undelivered is returned, to be declared first.

        Room is made one segment ahead, so that there is still space for the record that declares the loss. To be
        called about once a second, and again after each `drop`.
        """
        try:
            if not self.is_in_memory:
                self._shelf.keep_reserve()
            drop = self._retention.trim(utc_ns, self.durable_end, self._is_closed)
        except OSError:  # A disk that refuses now is asked again in a second.
            return None
        self._note_high()
        return drop

    def records_to_drop(self, drop: Drop) -> Iterator[tuple[int, bytes]]:
        """What would go undelivered: (number, bytes), to count the readings and times that a loss declares."""
        return self._retention.records_to_drop(drop)

    def drop(self, drop: Drop) -> None:
        """Remove a segment whose loss was declared in a durable record; `trim` does it later where the disk refuses."""
        with contextlib.suppress(OSError):
            self._retention.drop(drop)

    def _is_closed(self, held: StoredSegment) -> bool:
        return self._active is None or held.segment != self._active.segment

    def make_room(self) -> bool:
        """Whether readings would be taken again after they were refused; a dead disk's memory may have been emptied."""
        if not self.is_in_memory:
            return self._has_room(RECORD_BYTES_LIMIT)
        if self._limits.when_full == "stop" and not self._shelf.has_next():
            return False
        self.pending.release_acknowledged()
        return self.pending.size_bytes + RECORD_BYTES_LIMIT <= self._limits.memory_bytes

    def _has_room(self, needed_bytes: int) -> bool:
        active = self._active
        room_bytes = 0 if active is None else active.size_bytes - active.offset - self.pending.size_bytes
        return needed_bytes <= room_bytes or self._shelf.has_next()

    def _note_high(self) -> None:
        undelivered_bytes = self._retention.undelivered_bytes(self.durable_end)
        percent = 100 * undelivered_bytes // max(1, self._limits.limit_bytes)
        reached = next((level for level in _HIGH_PERCENTS if percent >= level), 0)
        if reached > self._high_percent:
            self._events.append(
                BufferEvent("buffer.high", {"percent": reached, "undelivered_bytes": undelivered_bytes})
            )
        if reached > self._high_percent or percent < self._high_percent - 5:
            self._high_percent = reached

    # Damage

    @property
    def has_unchecked(self) -> bool:
        """Whether segments of an earlier run are still to be checked."""
        return not self._inspection.is_done

    def check_next(self) -> list[Damage]:
        """Read one segment that the start knew by name only; what of it is lost, and was not delivered or declared.

        To be called now and then until `has_unchecked` is False.
        """
        return self._note_damages(self._inspection.check_next(self.durable_end))

    def find_vanished(self) -> list[Damage]:
        """Segments that somebody removed: what of them was not delivered or declared. To be called now and then."""
        if self._active is not None and not self._active.file.is_linked():
            self._drop_active()
        return self._note_damages(self._inspection.find_vanished(self.durable_end))

    def declare(self, damage: Damage) -> None:
        """Remember that a durable record declares this loss, so that it is not found again at the next start."""
        self._settled.declare(damage.first, damage.last)

    def _note_damages(self, found: list[Damage]) -> list[Damage]:
        for damage in found:
            segment = damage.segment.name
            data: EventData = {"segment": segment, "first_seq": damage.first_seq, "last_seq": damage.last_seq}
            self._events.append(BufferEvent("buffer.corrupt", data))
        return found
