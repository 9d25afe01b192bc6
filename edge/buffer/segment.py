"""Segments: files of one epoch, whose name gives the number, epoch and seq of their first record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.buffer.disk import Disk, File
from edge.buffer.frame import Frame, scan

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})-([0-9]{1,20})\.seg")
SEQ_END = 1 << 64


class Storable(Protocol):
    """A record as the buffer sees it."""

    @property
    def epoch(self) -> bytes:
        """Eight bytes that identify the chain."""
        ...

    @property
    def seq(self) -> int:
        """Position in the chain."""
        ...

    @property
    def data(self) -> bytes:
        """The bytes to store."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """Records `seq`, `seq + 1`, ... of one epoch, numbered `number`, `number + 1`, ... over the whole buffer."""

    number: int
    epoch: bytes
    seq: int

    @property
    def name(self) -> str:
        """The file name."""
        return f"{self.number:016x}-{self.epoch.hex()}-{self.seq}.seg"

    def seq_of(self, number: int) -> int:
        """The seq of the record with this number."""
        return self.seq + number - self.number

    def number_of(self, seq: int) -> int:
        """The number of the record with this seq."""
        return self.number + seq - self.seq

    def frames(self, file: File, number: int, number_end: int | None, offset: int = 0) -> Iterator[Frame]:
        """The intact frames with numbers in [number, number_end)."""
        seq_end = SEQ_END if number_end is None else self.seq_of(number_end)
        return scan(file, self.epoch, self.seq_of(number), seq_end, offset)


@dataclass(frozen=True, slots=True)
class Damage:
    """Records that were stored and can no longer be read.

    Attributes:
        before: the intact record just before them, if there is one in the same segment.
        after: the intact record just after them, likewise; it holds the hash of the last lost record.
    """

    segment: Segment
    first: int
    last: int
    before: bytes | None = None
    after: bytes | None = None

    @property
    def epoch(self) -> bytes:
        """The chain of the records."""
        return self.segment.epoch

    @property
    def first_seq(self) -> int:
        """Seq of the first lost record."""
        return self.segment.seq_of(self.first)

    @property
    def last_seq(self) -> int:
        """Seq of the last lost record."""
        return self.segment.seq_of(self.last)


def parse_name(name: str) -> Segment | None:
    """The segment with this file name; None for other files."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    number, epoch, seq = match.groups()
    return Segment(int(number, 16), bytes.fromhex(epoch), int(seq))


def list_segments(disk: Disk) -> list[Segment]:
    """All segments, oldest first."""
    found = (parse_name(name) for name in disk.list())
    return sorted((segment for segment in found if segment), key=lambda segment: segment.number)


def end_of(segments: Sequence[Segment], at: int) -> int | None:
    """One more than the last number of a segment; None for the newest, whose end its frames show."""
    return segments[at + 1].number if at + 1 < len(segments) else None


def damages(segment: Segment, frames: Iterable[Frame], number_end: int | None) -> Iterator[Damage]:
    """The numbers missing between the frames of a segment, and before `number_end` where that is known."""
    expected, before = segment.number, None
    for frame in frames:
        number = segment.number_of(frame.seq)
        if number > expected:
            yield Damage(segment, expected, number - 1, before, frame.data)
        expected, before = number + 1, frame.data
    if number_end is not None and expected < number_end:
        yield Damage(segment, expected, number_end - 1, before)


def read_records(disk: Disk, segment: Segment, end: int) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the intact records of a segment below `end`."""
    file = disk.open(segment.name)
    try:
        for frame in segment.frames(file, segment.number, end):
            yield segment.number_of(frame.seq), frame.data
    finally:
        file.close()
