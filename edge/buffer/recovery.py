"""Finds what a stop, a crash or a power cut left in the buffer, and looks for damage while the gateway runs.

Theory of operation.

A record has an epoch and a seq, which place it in its chain, and a number, which counts over the whole buffer. It is
never known by its position in a file: a segment's name gives the number, epoch and seq of its first record, and the
others follow from the distance of their seq. So damage to one record moves no other.

A number is in one of these states, and only ever moves down this list:

    unused      not assigned yet
    pending     appended; the record is in memory only
    written     in a segment, but maybe only in the page cache
    durable     `fdatasync` of the segment returned; only now does the watermark include it, and only now is it sent
    damaged     its frame can no longer be read; it is reported, to be declared
    completed   acknowledged (file `cursor`), or declared lost by a LOSS (file `declared`)
    gone        its segment was unlinked or reused, which happens only when all its numbers are completed

A segment is created, allocated, synced and named durably before its first record is written. Frames are appended to it
while it is the newest, and never after. A delivered segment may become the `spare`, whose old frames stay in the file:
epoch and seq under each checksum tell them from the frames of the next use.

What can never happen: a record is sent before it is durable; a number or seq that may have been sent is assigned again;
an undelivered record is removed before its loss is declared; a segment is written after its sync failed, because the
page cache then shows bytes that the disk does not have, and the next sync succeeds without them. The exception is
memory mode, in which the disk fails and pending records are sent: after a power cut only the watermark knows of them.

What a crash leaves, and what the next start makes of it:

    before a segment is named           no segment, or an empty one: it is created again, or continued
    before its first sync               an empty newest segment; the tail is read from the one before it
    during a write                      frames torn, zeroed or reordered at the end of the newest segment. If no intact
                                        frame follows, the tail is cut there: it was not durable, so it was not sent.
                                        If one follows, the bad frame may have been durable: it is damage
    after a write, before the           intact frames beyond the watermark. After a power cut they are on the disk.
    watermark                           After a kill they may be in the page cache only: what the watermark of the same
                                        boot does not include is written and synced again before it counts as durable
    after a sync that failed            less than was written; it was never sent
    while the cursor is saved           one of its two slots is intact; some records may be sent again
    after a LOSS, before the removal    the segment; `declared` prevents a second LOSS, or one more is harmless

The watermark, the cursor and `declared` may know of numbers that the newest segment does not show: those records
existed and may have been sent. Then the tail is lost, the next number is above all of them, and the caller must begin a
new chain.

A start reads the newest segments until it has the last records, and knows the others by name, because ten gigabytes
must not delay the first scan; `Inspection` reads those later. The end of a segment is the number of the next one, so
missing records show even in the last frames of a closed segment. Damage to completed numbers is not reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge.buffer.cursor import CompletedNumbers
from edge.buffer.disk import Disk
from edge.buffer.frame import Frame
from edge.buffer.segment import Damage, Segment, damages, end_of, list_segments
from edge.buffer.space import SegmentStorage
from edge.buffer.watermark import Watermark, load_watermark
from edge.errors import ConfigError
from edge.intervals import IntervalSet

TAIL_RECORDS = 2


@dataclass(frozen=True, slots=True)
class TailRecord:
    """One of the last intact records of a buffer."""

    number: int
    epoch: bytes
    seq: int
    data: bytes


@dataclass(slots=True)
class Recovery:
    """The state of a buffer at the start.

    Attributes:
        segments: all segments, oldest first.
        unread: segments known by name only, to be checked later.
        end: the number of the next record; lower ones are never assigned again.
        offset: where the next frame goes in the newest segment.
        unsynced_offset: the bytes from here to `offset` may be in the page cache only.
        tail: the last records, oldest first, so that the signature of the head can be checked.
        damages: records that are lost and neither delivered nor declared.
        is_tail_lost: records after the tail are known to have existed, so the chain cannot be extended.
    """

    segments: list[Segment]
    unread: list[Segment] = field(default_factory=list)
    end: int = 0
    offset: int = 0
    unsynced_offset: int = 0
    tail: list[TailRecord] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    is_tail_lost: bool = False


def recover(disk: Disk, completed: CompletedNumbers) -> Recovery:
    """Find the end of the buffer; damaged files never make it fail.

    Raises:
        ConfigError: the directory cannot be read, so that it is unknown which numbers are assigned.
    """
    numbers = completed.numbers()
    watermark = load_watermark(disk)
    watermark = watermark._replace(used_end=max(numbers.end, watermark.durable_end, watermark.used_end))
    try:
        found = Recovery(list_segments(disk))
    except FileNotFoundError:
        found = Recovery([])
    except OSError as error:
        raise ConfigError(f"the buffer cannot be read: {error}; see to its disk, owner and mode") from error
    at = len(found.segments)
    while at and len(found.tail) < TAIL_RECORDS:
        at -= 1
        _read_segment(disk, found, at, watermark)
    found.unread = found.segments[:at]
    found.end = max(found.end, watermark.used_end)
    found.damages = [part for damage in found.damages for part in undeclared(damage, numbers)]
    return found


def _read_segment(disk: Disk, found: Recovery, at: int, watermark: Watermark) -> None:
    segment, number_end = found.segments[at], end_of(found.segments, at)
    tail = _Tail(segment.seq_of(watermark.durable_end))
    try:
        file = disk.open(segment.name)
    except OSError:  # It is listed and cannot be opened: all of it is damage.
        holes = list(damages(segment, (), number_end))
    else:
        try:
            frames = tail.pass_through(segment.frames(file, segment.number, number_end))
            holes = list(damages(segment, frames, number_end))
        finally:
            file.close()
    if number_end is None:
        found.offset = tail.last[-1].end if tail.last else 0
        found.end = segment.number_of(tail.last[-1].seq) + 1 if tail.last else segment.number
        # After a boot the frames come from the disk; within one boot they may come from the page cache.
        found.unsynced_offset = tail.offset if watermark.boot_id == disk.boot_id() else found.offset
        if watermark.used_end > found.end:
            found.is_tail_lost = True
            holes.append(Damage(segment, found.end, watermark.used_end - 1, tail.last[-1].data if tail.last else None))
    elif holes and not found.tail and holes[-1].last == number_end - 1:
        found.is_tail_lost = True
    records = [TailRecord(segment.number_of(frame.seq), segment.epoch, frame.seq, frame.data) for frame in tail.last]
    found.tail = [*records, *found.tail][-TAIL_RECORDS:]
    found.damages = [*holes, *found.damages]


class _Tail:
    """Notes the last frames that pass through, and the offset at which those below a seq end."""

    def __init__(self, seq: int) -> None:
        self.last: deque[Frame] = deque(maxlen=TAIL_RECORDS)
        self.offset = 0
        self._seq = seq

    def pass_through(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.last.append(frame)
            if frame.seq < self._seq:
                self.offset = frame.end
            yield frame


class Inspection:
    """Checks the segments that the start did not read, newest first, and looks for removed ones."""

    def __init__(
        self, disk: Disk, storage: SegmentStorage, completed: CompletedNumbers, unread: list[Segment]
    ) -> None:  # fmt: skip
        self._disk, self._storage, self._completed, self._unread = disk, storage, completed, unread

    def check_next(self, durable_end: int) -> list[Damage]:
        """Read one segment; returns what of it is lost and neither delivered nor declared."""
        if not self._unread:
            return []
        segment = self._unread.pop()
        ends = self._storage.with_ends(durable_end)
        end = next((end for stored, end in ends if stored.segment == segment), segment.number)
        try:
            file = self._disk.open(segment.name)
        except OSError:
            return self._undeclared([Damage(segment, segment.number, end - 1)])
        try:
            return self._undeclared(list(damages(segment, segment.frames(file, segment.number, end), end)))
        finally:
            file.close()

    def find_vanished(self, durable_end: int) -> list[Damage]:
        """Find removed segments; returns what of them is neither delivered nor declared."""
        try:
            present = set(list_segments(self._disk))
        except FileNotFoundError:
            present = set()
        except OSError:
            return []
        ends = self._storage.with_ends(durable_end)
        gone = [(stored.segment, end) for stored, end in ends if stored.segment not in present]
        self._storage.segments = [stored for stored in self._storage.segments if stored.segment in present]
        return self._undeclared([Damage(segment, segment.number, end - 1) for segment, end in gone])

    def _undeclared(self, found: list[Damage]) -> list[Damage]:
        completed = self._completed.numbers()
        return [part for damage in found for part in undeclared(damage, completed)]


def undeclared(damage: Damage, completed: IntervalSet) -> list[Damage]:
    """The parts of a damage that are neither delivered nor declared lost."""
    return [
        Damage(
            damage.segment,
            first,
            last,
            damage.before if first == damage.first else None,
            damage.after if last == damage.last else None,
        )
        for first, last in completed.missing(damage.first, damage.last)
    ]
