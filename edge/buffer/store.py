"""The writer of the buffer: append, then commit with one write and one sync.

A file whose sync failed is never synced again: records that were not durable are written from memory to a new segment.
If that fails too, the store keeps a limited number of records in memory and tries the disk again each second.
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
from edge.buffer.space import BufferLimits, Drop, Retention, SegmentStorage, StoredSegment
from edge.buffer.watermark import Watermark, WatermarkWriter
from edge.errors import BufferFull

RETRY_NS = 10**9
_HIGH_PERCENTS = (95, 85, 70)
EventData = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class BufferEvent:
    """An event for the audit trail: its kind and its data."""

    kind: str
    data: EventData = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the buffer is. Numbers below `oldest` are gone, those below `durable_end` are on disk.

    `oldest_epoch` and `oldest_seq` identify the oldest record in its chain; empty and 0 in an empty buffer. Records
    acknowledged within the resend window still count as undelivered. While records are in memory only, `failure` is
    what the disk said and `free_bytes` what is free on it.
    """

    used_bytes: int
    undelivered_bytes: int
    undelivered_records: int
    oldest: int
    oldest_epoch: bytes
    oldest_seq: int
    durable_end: int
    is_in_memory: bool
    failure: str = ""
    free_bytes: int = 0


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

    def __init__(self, disk: Disk, limits: BufferLimits, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Open the buffer; `recovery` says what was found."""
        self._disk, self._limits, self._monotonic_ns = disk, limits, monotonic_ns
        self._watermark, self._boot_id = WatermarkWriter(disk), disk.boot_id()
        self._events: list[BufferEvent] = []
        self._active: _Active | None = None
        self._retry_at_ns: int | None = None  # When to try the disk again; None while it works.
        self._failure = ""
        self.is_out_of_room = False
        self._is_urgent = False
        self._high_percent = 0
        self._completed = CompletedNumbers(disk)
        self.recovery: Recovery = recover(disk, self._completed)
        self.pending = PendingRecords(self.recovery.end)
        self._storage = SegmentStorage(disk, limits, self.recovery.segments)
        self._retention = Retention(disk, limits, self._storage, self._completed)
        self._inspection = Inspection(disk, self._storage, self._completed, list(self.recovery.unread))
        self._continue_newest()
        if not self.is_in_memory:
            self._storage.keep_reserve()
        self._note_damages(self.recovery.damages)

    # Writing

    @property
    def durable_end(self) -> int:
        """Every record with a lower number is on disk or gone."""
        return self.pending.first

    @property
    def is_in_memory(self) -> bool:
        """Whether the disk fails and records are kept in memory."""
        return self._retry_at_ns is not None

    def append(self, records: Sequence[Storable], *, urgent: bool = False) -> int:
        """Take records for the next commit; returns the number of the first.

        Args:
            urgent: for events and losses, which may use the reserve on a full disk.

        Raises:
            BufferFull: no record was taken; their seq must be declared lost.
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
        """Make the appended records durable; False if they are only in memory."""
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
        """Remove and return the events since the last call."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Close the files; records that were not committed are lost."""
        self._drop_active()
        self._watermark.close()

    def _write_or_rewrite(self) -> None:
        try:
            self._write_pending()
        except OSError as error:
            if self.is_in_memory or self._active is None:
                raise
            self._events.append(
                BufferEvent("buffer.fsync", {"segment": self._active.segment.name, "error": str(error)})
            )
            self._drop_active()
            self._write_pending()

    def _write_pending(self) -> None:
        while len(self.pending):
            active = self._active
            if active is None or not active.takes(self.pending.first, self.pending.head()[0], active.offset):
                active = self._rotate(self.pending.head()[0])
            frames = self._fitting(active)
            self._write(active, b"".join(frames))
            self.pending.remove(len(frames))

    def _fitting(self, active: _Active) -> list[bytes]:
        """Frames of the pending records that belong to the segment and fit."""
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
        file = self._storage.create(segment, urgent=self._is_urgent)
        self._active = _Active(segment, file, 0, file.size())
        return self._active

    def _finish_active(self) -> None:
        """Close the active segment and free the space it did not use."""
        active = self._active
        if active is not None and active.size_bytes - active.offset > RECORD_BYTES_LIMIT:
            active.file.truncate(active.offset)
            self._storage.segments[-1].size_bytes = active.offset
        self._drop_active()

    def _drop_active(self) -> None:
        if self._active is not None:
            self._active.file.close()
            self._active = None

    # Start

    def _continue_newest(self) -> None:
        """Write and sync again what a killed process may have left unsynced, before the watermark includes it.

        After a failed sync the page cache shows what the disk does not have, and another sync would not report it.
        """
        if not self._storage.segments:
            self._publish()
            return
        newest = self._storage.segments[-1]
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

    # Memory mode

    def _to_memory(self, error: OSError) -> None:
        self._drop_active()
        if self._retry_at_ns is None:
            self._events.append(BufferEvent("buffer.memory", {"is_in_memory": True, "error": str(error)}))
        self._retry_at_ns, self._failure = self._monotonic_ns() + RETRY_NS, str(error)
        self.is_out_of_room = error.errno == errno.ENOSPC
        self.pending.is_readable = True

    def _to_disk(self) -> None:
        if self._retry_at_ns is not None:
            self._retry_at_ns, self._failure = None, ""
            self.is_out_of_room = False
            self.pending.is_readable = False
            self._events.append(BufferEvent("buffer.memory", {"is_in_memory": False}))
            self._storage.keep_reserve()

    def _is_retry_due(self) -> bool:
        has_reserve = self._is_urgent and self._storage.has_reserve
        return has_reserve or self._monotonic_ns() >= (self._retry_at_ns or 0)

    def _make_room_in_memory(self, needed_bytes: int, *, urgent: bool) -> None:
        # As on disk, space is reserved for the records that declare the losses.
        limit_bytes = self._limits.memory_bytes + (self._limits.reserve_bytes if urgent else 0)
        if self.pending.size_bytes + needed_bytes > limit_bytes:
            self.pending.release_acknowledged()
        if self.pending.size_bytes + needed_bytes > limit_bytes:
            raise BufferFull("the buffer's disk takes nothing, and the memory kept for that is full: see to the disk")

    def _publish(self) -> None:
        used_end = self.pending.end if self.is_in_memory else self.durable_end
        self._watermark.publish(Watermark(self.durable_end, used_end, self._boot_id))

    # Limits

    def usage(self) -> Usage:
        """How full the buffer is."""
        segments = self._storage.segments
        return Usage(
            used_bytes=self._storage.used_bytes,
            undelivered_bytes=self._retention.undelivered_bytes(self.durable_end),
            undelivered_records=self._retention.undelivered_records(self.durable_end),
            oldest=segments[0].segment.number if segments else self.durable_end,
            oldest_epoch=segments[0].segment.epoch if segments else b"",
            oldest_seq=segments[0].segment.seq if segments else 0,
            durable_end=self.durable_end,
            is_in_memory=self.is_in_memory,
            failure=self._failure,
            free_bytes=self._storage.free_bytes() if self.is_in_memory else 0,
        )

    def trim(self, utc_ns: int) -> Drop | None:
        """Free delivered segments that are due; returns a segment that must go undelivered, to be declared first.

        Room is made one segment ahead, so that there is still space for the record that declares the loss. Call it
        about once a second, and again after each `drop`.
        """
        try:
            if not self.is_in_memory:
                self._storage.keep_reserve()
            drop = self._retention.trim(utc_ns, self.durable_end, self._is_closed)
        except OSError:  # The next call tries again.
            return None
        self._note_high()
        return drop

    def records_to_drop(self, drop: Drop) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) of the records that a drop would lose, to count the readings and times to declare."""
        return self._retention.records_to_drop(drop)

    def drop(self, drop: Drop) -> None:
        """Remove a segment whose loss is declared in a durable record; where the disk refuses, `trim` does it later.

        On a full disk the declaration may wait in memory for this room: the next commit tries the disk at once.
        """
        with contextlib.suppress(OSError):
            self._retention.drop(drop)
        if self.is_out_of_room and self.is_in_memory:
            self._retry_at_ns = self._monotonic_ns()

    def _is_closed(self, stored: StoredSegment) -> bool:
        return self._active is None or stored.segment != self._active.segment

    def make_room(self) -> bool:
        """Remove acknowledged records from memory; whether another record would be taken after one was refused."""
        if not self.is_in_memory:
            return self._has_room(RECORD_BYTES_LIMIT)
        if self._limits.when_full == "stop" and not self._storage.has_room():
            return False
        self.pending.release_acknowledged()
        return self.pending.size_bytes + RECORD_BYTES_LIMIT <= self._limits.memory_bytes

    def _has_room(self, needed_bytes: int) -> bool:
        active = self._active
        room_bytes = 0 if active is None else active.size_bytes - active.offset - self.pending.size_bytes
        return needed_bytes <= room_bytes or self._storage.has_room()

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

    def check_next(self) -> list[Damage]:
        """Read a segment that the start did not; returns what of it is lost and neither delivered nor declared."""
        return self._note_damages(self._inspection.check_next(self.durable_end))

    def find_vanished(self) -> list[Damage]:
        """Find removed segments; returns what of them is neither delivered nor declared."""
        if self._active is not None and not self._active.file.is_linked():
            self._drop_active()
        return self._note_damages(self._inspection.find_vanished(self.durable_end))

    def declare(self, damage: Damage) -> None:
        """Remember that a durable record declares this loss, so that the next start does not report it again."""
        self._completed.declare(damage.first, damage.last)

    def _note_damages(self, found: list[Damage]) -> list[Damage]:
        for damage in found:
            segment = damage.segment.name
            data: EventData = {"segment": segment, "first_seq": damage.first_seq, "last_seq": damage.last_seq}
            self._events.append(BufferEvent("buffer.corrupt", data))
        return found
