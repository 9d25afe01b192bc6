"""What a start finds: only the newest segments are read whole, the others are known by name.

A tail is cut only where nothing intact follows: a bad frame with a good one behind it may have been durable and sent,
so it is damage to be declared, and its seq is never used again.
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
    """One of the last records of a buffer."""

    number: int
    epoch: bytes
    seq: int
    data: bytes


@dataclass(slots=True)
class Recovery:
    """The buffer as it was found.

    Attributes:
        segments: all of them, oldest first.
        unread: those known by name only, to be checked later.
        end: the number of the next record; no lower one is ever given out again.
        offset: where the next frame goes in the newest segment.
        unsynced_offset: from here to there, what it holds may be in the page cache only.
        tail: the last records, oldest first, so that the signature of the head can be checked.
        damages: what was lost and neither delivered nor declared before.
        is_tail_lost: records after the tail are known to have existed: the chain cannot be continued.
    """

    segments: list[Segment]
    unread: list[Segment] = field(default_factory=list)
    end: int = 0
    offset: int = 0
    unsynced_offset: int = 0
    tail: list[TailRecord] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    is_tail_lost: bool = False


def recover(disk: Disk, settled: CompletedNumbers) -> Recovery:
    """Find the end of the buffer; never fails for what is in its files.

    Raises:
        ConfigError: the directory cannot be read, so that nobody knows which numbers are taken.
    """
    numbers = settled.numbers()
    mark = load_watermark(disk)
    mark = mark._replace(used_end=max(numbers.end, mark.durable_end, mark.used_end))
    try:
        found = Recovery(list_segments(disk))
    except FileNotFoundError:
        found = Recovery([])
    except OSError as error:
        raise ConfigError(f"the buffer cannot be read: {error}; see to its disk, owner and mode") from error
    at = len(found.segments)
    while at and len(found.tail) < TAIL_RECORDS:
        at -= 1
        _read_segment(disk, found, at, mark)
    found.unread = found.segments[:at]
    found.end = max(found.end, mark.used_end)
    found.damages = [part for damage in found.damages for part in undeclared(damage, numbers)]
    return found


def _read_segment(disk: Disk, found: Recovery, at: int, mark: Watermark) -> None:
    segment, number_end = found.segments[at], end_of(found.segments, at)
    walk = _Walk(segment.seq_of(mark.durable_end))
    try:
        file = disk.open(segment.name)
    except OSError:  # It is there by name and cannot be opened: all of it is damage.
        holes = list(damages(segment, (), number_end))
    else:
        try:
            holes = list(damages(segment, walk.over(segment.frames(file, segment.number, number_end)), number_end))
        finally:
            file.close()
    if number_end is None:
        found.offset = walk.last[-1].end if walk.last else 0
        found.end = segment.number_of(walk.last[-1].seq) + 1 if walk.last else segment.number
        # What survived a boot was read from the disk; within one it may have come from the page cache.
        found.unsynced_offset = walk.offset if mark.boot_id == disk.boot_id() else found.offset
        if mark.used_end > found.end:
            found.is_tail_lost = True
            holes.append(Damage(segment, found.end, mark.used_end - 1, walk.last[-1].data if walk.last else None))
    elif holes and not found.tail and holes[-1].last == number_end - 1:
        found.is_tail_lost = True
    records = [TailRecord(segment.number_of(frame.seq), segment.epoch, frame.seq, frame.data) for frame in walk.last]
    found.tail = [*records, *found.tail][-TAIL_RECORDS:]
    found.damages = [*holes, *found.damages]


class _Walk:
    """Frames on their way by: the last few are kept, and where those below a seq end."""

    def __init__(self, seq: int) -> None:
        self.last: deque[Frame] = deque(maxlen=TAIL_RECORDS)
        self.offset = 0
        self._seq = seq

    def over(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.last.append(frame)
            if frame.seq < self._seq:
                self.offset = frame.end
            yield frame


class Inspection:
    """Checks what the start knew by name only, one segment at a time, newest first."""

    def __init__(self, disk: Disk, shelf: SegmentStorage, settled: CompletedNumbers, unread: list[Segment]) -> None:
        self._disk, self._shelf, self._settled, self._unread = disk, shelf, settled, unread

    @property
    def is_done(self) -> bool:
        """Whether everything was read once."""
        return not self._unread

    def check_next(self, durable_end: int) -> list[Damage]:
        """Read one segment; what of it is lost and was neither delivered nor declared."""
        if not self._unread:
            return []
        segment = self._unread.pop()
        end = next((end for held, end in self._shelf.ended(durable_end) if held.segment == segment), segment.number)
        try:
            file = self._disk.open(segment.name)
        except OSError:
            return self._undeclared([Damage(segment, segment.number, end - 1)])
        try:
            return self._undeclared(list(damages(segment, segment.frames(file, segment.number, end), end)))
        finally:
            file.close()

    def find_vanished(self, durable_end: int) -> list[Damage]:
        """Segments that somebody removed: what of them was neither delivered nor declared."""
        try:
            present = set(list_segments(self._disk))
        except FileNotFoundError:
            present = set()
        except OSError:
            return []
        gone = [(held, end) for held, end in self._shelf.ended(durable_end) if held.segment not in present]
        self._shelf.held = [held for held in self._shelf.held if held.segment in present]
        return self._undeclared([Damage(held.segment, held.segment.number, end - 1) for held, end in gone])

    def _undeclared(self, found: list[Damage]) -> list[Damage]:
        settled = self._settled.numbers()
        return [part for damage in found for part in undeclared(damage, settled)]


def undeclared(damage: Damage, settled: IntervalSet) -> list[Damage]:
    """The parts of it that were neither delivered nor declared lost before."""
    return [
        Damage(
            damage.segment,
            first,
            last,
            damage.before if first == damage.first else None,
            damage.after if last == damage.last else None,
        )
        for first, last in settled.missing(damage.first, damage.last)
    ]
