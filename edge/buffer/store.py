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
from hashlib import sha256

from edge.buffer.cursor import CURSOR, DECLARED, Cursor, read_slots
from edge.buffer.disk import Disk, File
from edge.buffer.frame import HEADER, RECORD_BYTES_LIMIT, encode
from edge.buffer.intervals import Intervals
from edge.buffer.mark import Mark, MarkWriter
from edge.buffer.recovery import Recovery, recover, undeclared
from edge.buffer.retention import Drop, Held, Limits, Run, delivered_by_age, is_expired
from edge.buffer.segment import Damage, Segment, Storable, damages, list_segments
from edge.buffer.waiting import Waiting, stored_bytes
from edge.errors import BufferFull

RETRY_NS = 10**9
SPARE = "spare"
RESERVE = "reserve"
_HIGH_PERCENTS = (95, 85, 70)
Facts = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Change:
    """Something the operator should know, once: an event kind and its facts."""

    kind: str
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the buffer is. Numbers below `oldest` are gone, those below `durable_end` are on disk."""

    used_bytes: int
    undelivered_bytes: int
    limit_bytes: int
    oldest: int
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
        self._mark, self._boot_id = MarkWriter(disk), disk.boot_id()
        self._declared = Cursor(disk, DECLARED)
        self._changes: list[Change] = []
        self._active: _Active | None = None
        self._failed_at_ns: int | None = None
        self._is_urgent = False
        self._high_percent = 0
        self.recovery: Recovery = recover(disk)
        self.waiting = Waiting(self.recovery.end)
        self._unread = list(self.recovery.unread)
        self._held = self._measure(self.recovery.segments)
        self._spare_bytes, self._reserve_bytes = self._size(SPARE), self._size(RESERVE)
        self._continue_newest()
        self._keep_reserve()
        for damage in self.recovery.damages:
            self._note_damage(damage)

    # Writing

    @property
    def durable_end(self) -> int:
        """Every record with a lower number is on disk, or is not to be expected any more."""
        return self.waiting.first

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
            self._make_room_in_memory(needed_bytes)
        elif not urgent and self._limits.when_full == "stop" and not self._has_room(needed_bytes):
            raise BufferFull(
                "the buffer is full and its policy is to stop: raise its limit, or let the uplink drain it"
            )
        self._is_urgent = self._is_urgent or urgent
        return self.waiting.append(records)

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

    def take_changes(self) -> list[Change]:
        """What changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

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
            self._changes.append(Change("buffer.fsync", {"segment": self._active.segment.name, "error": str(error)}))
            self._drop_active()
            self._write_waiting()

    def _write_waiting(self) -> None:
        while len(self.waiting):
            active = self._active
            if active is None or not active.takes(self.waiting.first, self.waiting.head()[0], active.offset):
                active = self._rotate(self.waiting.head()[0])
            frames = self._fitting(active)
            self._write(active, b"".join(frames))
            self.waiting.remove(len(frames))

    def _fitting(self, active: _Active) -> list[bytes]:
        """Frames of what waits, as far as they belong into the segment and fit."""
        frames: list[bytes] = []
        offset = active.offset
        for number, record in enumerate(self.waiting.head(), self.waiting.first):
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
        segment = Segment(self.waiting.first, record.epoch, record.seq)
        self._finish_active()
        self._remove_empty_newest(segment.number)
        size_bytes = self._segment_bytes()
        file = self._take_spare(segment) or self._create(segment.name, size_bytes)
        self._held.append(Held(segment, file.size(), file.modified_ns()))
        self._active = _Active(segment, file, 0, file.size())
        return self._active

    def _segment_bytes(self) -> int:
        if self._has_next():
            return self._limits.segment_bytes
        if self._is_urgent and self._reserve_bytes:
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(RESERVE)
            size_bytes, self._reserve_bytes = self._reserve_bytes, 0
            return size_bytes
        raise OSError(errno.ENOSPC, "no room for another segment")

    def _create(self, name: str, size_bytes: int) -> File:
        with contextlib.suppress(FileNotFoundError):  # What an earlier attempt left holds nothing durable.
            self._disk.unlink(name)
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

    def _take_spare(self, segment: Segment) -> File | None:
        if not self._spare_bytes:
            return None
        self._spare_bytes = 0
        self._disk.rename(SPARE, segment.name)
        file = self._disk.open(segment.name, writable=True)
        return self._make_ready(segment.name, file, self._limits.segment_bytes)

    def _finish_active(self) -> None:
        """Give back the space that the segment being left does not use."""
        active = self._active
        if active is not None and active.size_bytes - active.offset > RECORD_BYTES_LIMIT:
            active.file.truncate(active.offset)
            self._held[-1].size_bytes = active.offset
        self._drop_active()

    def _drop_active(self) -> None:
        if self._active is not None:
            self._active.file.close()
            self._active = None

    def _remove_empty_newest(self, number: int) -> None:
        while self._held and self._held[-1].segment.number >= number:
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(self._held[-1].segment.name)
            self._held.pop()

    # Start

    def _continue_newest(self) -> None:
        """Write and sync again what a killed process may have left unsynced, before anybody is told of it.

        After a failed sync the page cache shows what the disk does not have, and another sync would say nothing.
        """
        if not self._held:
            self._publish()
            return
        newest = self._held[-1]
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
        while self._held and self._held[-1].segment.number >= number:
            self._disk.unlink(self._held.pop().segment.name)
        if self._held:
            segment = self._held[-1].segment
            file = self._disk.open(segment.name, writable=True)
            try:
                ends = [frame.end for frame in segment.frames(file, segment.number, number)]
                file.truncate(ends[-1] if ends else 0)
                file.fdatasync()
                self._held[-1].size_bytes = file.size()
            finally:
                file.close()
        self._disk.sync_dir()
        self._declared.add(number, self.durable_end - 1)
        self._declared.save()
        self.recovery = recover(self._disk)

    def _measure(self, segments: Sequence[Segment]) -> list[Held]:
        return [self._measured(segment) for segment in segments]

    def _measured(self, segment: Segment) -> Held:
        try:
            file = self._disk.open(segment.name)
        except OSError:
            return Held(segment, 0, 0)
        try:
            return Held(segment, file.size(), file.modified_ns())
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

    # Memory mode

    def _to_memory(self, error: OSError) -> None:
        self._drop_active()
        if self._failed_at_ns is None:
            self._changes.append(Change("buffer.memory", {"is_in_memory": True, "error": str(error)}))
        self._failed_at_ns = self._monotonic_ns()
        self.waiting.is_readable = True

    def _to_disk(self) -> None:
        if self._failed_at_ns is not None:
            self._failed_at_ns = None
            self.waiting.is_readable = False
            self._changes.append(Change("buffer.memory", {"is_in_memory": False}))
            self._keep_reserve()

    def _is_retry_due(self) -> bool:
        has_reserve = self._is_urgent and bool(self._reserve_bytes)
        return has_reserve or self._monotonic_ns() - (self._failed_at_ns or 0) >= RETRY_NS

    def _make_room_in_memory(self, needed_bytes: int) -> None:
        if self.waiting.size_bytes + needed_bytes > self._limits.memory_bytes:
            self.waiting.release_acknowledged()
        if self.waiting.size_bytes + needed_bytes > self._limits.memory_bytes:
            raise BufferFull("the buffer's disk takes nothing, and the memory kept for that is full: see to the disk")

    def _publish(self) -> None:
        used_end = self.waiting.end if self.is_in_memory else self.durable_end
        self._mark.publish(Mark(self.durable_end, used_end, self._boot_id))

    # Bounds

    @property
    def used_bytes(self) -> int:
        """All files of the buffer."""
        return sum(held.size_bytes for held in self._held) + self._spare_bytes + self._reserve_bytes

    def usage(self) -> Usage:
        """How full the buffer is."""
        settled = self._settled()
        undelivered = [held for held, end in self._ended() if any(settled.missing(held.segment.number, end - 1))]
        return Usage(
            used_bytes=self.used_bytes,
            undelivered_bytes=sum(held.size_bytes for held in undelivered),
            limit_bytes=self._limits.limit_bytes,
            oldest=self._held[0].segment.number if self._held else self.durable_end,
            durable_end=self.durable_end,
            memory_bytes=self.waiting.size_bytes,
            is_in_memory=self.is_in_memory,
        )

    def trim(self, utc_ns: int) -> Drop | None:
        """Free what was delivered and is due; a segment that must go undelivered is returned, to be declared first.

        Room is made one segment ahead, so that there is still space for the record that declares the loss. To be
        called about once a second, and again after each `drop`.
        """
        try:
            return self._trim(utc_ns)
        except OSError:  # A disk that refuses now is asked again in a second.
            return None

    def _trim(self, utc_ns: int) -> Drop | None:
        self._keep_reserve()
        settled = self._settled()
        closed = [(held, end) for held, end in self._ended() if self._is_closed(held)]
        delivered = list(delivered_by_age(closed, settled))
        doomed = [held for held in delivered if is_expired(held, utc_ns, self._limits)]
        kept = [held for held in delivered if held not in doomed]
        if doomed or not self._has_next():
            self._sync_cursor()
        self._free(doomed)
        while kept and not self._has_next():
            self._free([kept.pop(0)])
        self._note_high()
        if self._has_next() or self._limits.when_full == "stop":
            return None
        freed = {held.segment for held in delivered}
        return next((self._plan(held, end, settled) for held, end in closed if held.segment not in freed), None)

    def doomed_records(self, drop: Drop) -> Iterator[tuple[int, bytes]]:
        """What would go undelivered: (number, bytes), to count the readings and times that a loss declares."""
        for frame_number, data in self._records(drop.segment, drop.end):
            if any(run.first <= frame_number <= run.last for run in drop.runs):
                yield frame_number, data

    def drop(self, drop: Drop) -> None:
        """Remove a segment whose loss was declared in a durable record."""
        for run in drop.runs:
            self._declared.add(run.first, run.last)
        with contextlib.suppress(OSError):  # On a full disk the segment goes first; its loss is on record.
            self._declared.save()
        self._free([held for held in self._held if held.segment == drop.segment])

    def _plan(self, held: Held, end: int, settled: Intervals) -> Drop:
        segment = held.segment
        lost = list(settled.missing(segment.number, end - 1))
        lasts = {last for _, last in lost}
        hashes = {number: sha256(data).digest() for number, data in self._records(segment, end) if number in lasts}
        runs = (
            Run(segment.epoch, segment.seq_of(first), segment.seq_of(last), first, last, hashes.get(last))
            for first, last in lost
        )
        return Drop(segment, end, tuple(runs))

    def _records(self, segment: Segment, end: int) -> Iterator[tuple[int, bytes]]:
        file = self._disk.open(segment.name)
        try:
            for frame in segment.frames(file, segment.number, end):
                yield segment.number_of(frame.seq), frame.data
        finally:
            file.close()

    def _free(self, doomed: Sequence[Held]) -> None:
        """Unlink, or keep one as the next segment: a file written in place costs the device half the writes."""
        for held in doomed:
            is_whole = held.size_bytes >= self._limits.segment_bytes
            if is_whole and not self._spare_bytes and self._is_within(0):
                self._disk.rename(held.segment.name, SPARE)
                self._spare_bytes = held.size_bytes
            else:
                with contextlib.suppress(FileNotFoundError):
                    self._disk.unlink(held.segment.name)
            self._held.remove(held)
        if doomed:
            self._disk.sync_dir()

    def _sync_cursor(self) -> None:
        """What the cursor says must be on disk before anything is unlinked for it."""
        with contextlib.suppress(FileNotFoundError):
            file = self._disk.open(CURSOR, writable=True)
            try:
                file.fdatasync()
            finally:
                file.close()

    def _settled(self) -> Intervals:
        return read_slots(self._disk, CURSOR)[1].union(self._declared.intervals)

    def _ended(self) -> Iterator[tuple[Held, int]]:
        ends = [held.segment.number for held in self._held[1:]] + [self.durable_end]
        return zip(self._held, ends, strict=True) if self._held else iter(())

    def _is_closed(self, held: Held) -> bool:
        return self._active is None or held.segment != self._active.segment

    def _has_next(self) -> bool:
        """Whether there is, or may be made, one more segment."""
        return self._is_within(0 if self._spare_bytes else self._limits.segment_bytes)

    def _is_within(self, more_bytes: int) -> bool:
        limits = self._limits
        return (
            self.used_bytes + more_bytes <= limits.limit_bytes
            and self._disk.free_bytes() - more_bytes >= limits.free_space_bytes
        )

    def has_room(self) -> bool:
        """Whether readings would be taken again after they were refused."""
        return not self.is_in_memory and self._has_room(RECORD_BYTES_LIMIT)

    def _has_room(self, needed_bytes: int) -> bool:
        active = self._active
        room_bytes = 0 if active is None else active.size_bytes - active.offset - self.waiting.size_bytes
        return needed_bytes <= room_bytes or self._has_next()

    def _keep_reserve(self) -> None:
        """Hold some space back for the records that must be written on a full disk."""
        wanted = self._limits.reserve_bytes
        if self._reserve_bytes or not wanted or self.is_in_memory or not self._is_within(wanted):
            return
        try:
            self._create(RESERVE, wanted).close()
        except OSError:
            return
        self._reserve_bytes = wanted

    def _note_high(self) -> None:
        usage = self.usage()
        percent = 100 * usage.undelivered_bytes // max(1, usage.limit_bytes)
        reached = next((level for level in _HIGH_PERCENTS if percent >= level), 0)
        if reached > self._high_percent:
            self._changes.append(Change("buffer.high", {"percent": reached, "used_bytes": usage.undelivered_bytes}))
        if reached > self._high_percent or percent < self._high_percent - 5:
            self._high_percent = reached

    # Damage

    def check_next(self) -> list[Damage]:
        """Read one segment that the start knew by name only; what of it is lost, and was not delivered or declared.

        To be called now and then until `has_unchecked` is False: ten gigabytes are not read before the first scan.
        """
        if not self._unread:
            return []
        segment = self._unread.pop()
        end = next((end for held, end in self._ended() if held.segment == segment), None)
        if end is None:
            return []
        try:
            file = self._disk.open(segment.name)
        except OSError:
            return self._declarable([Damage(segment, segment.number, end - 1)])
        try:
            return self._declarable(list(damages(segment, segment.frames(file, segment.number, end), end)))
        finally:
            file.close()

    @property
    def has_unchecked(self) -> bool:
        """Whether segments of an earlier run are still to be checked."""
        return bool(self._unread)

    def find_vanished(self) -> list[Damage]:
        """Segments that somebody removed: what of them was not delivered or declared."""
        try:
            present = set(list_segments(self._disk))
        except OSError:
            return []
        gone = [(held, end) for held, end in self._ended() if held.segment not in present]
        self._held = [held for held in self._held if held.segment in present]
        return self._declarable([Damage(held.segment, held.segment.number, end - 1)
                                 for held, end in gone if end > held.segment.number])  # fmt: skip

    def declare(self, damage: Damage) -> None:
        """Remember that a durable record declares this loss, so that it is not found again at the next start."""
        self._declared.add(damage.first, damage.last)
        with contextlib.suppress(OSError):  # Declared twice is no harm.
            self._declared.save()

    def _declarable(self, found: list[Damage]) -> list[Damage]:
        settled = self._settled()
        parts = [part for damage in found for part in undeclared(damage, settled)]
        for part in parts:
            self._note_damage(part)
        return parts

    def _note_damage(self, damage: Damage) -> None:
        facts: Facts = {"segment": damage.segment.name, "first_seq": damage.first_seq, "last_seq": damage.last_seq}
        self._changes.append(Change("buffer.corrupt", facts))
