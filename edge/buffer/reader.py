"""Reading the buffer, in the writer's process or another.

A reader keeps the positions where it stopped, so that the next read is one call for many frames. A segment that is
removed or reused meanwhile fails its checksums, and is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.buffer.disk import Disk, File
from edge.buffer.frame import HEADER, RECORD_BYTES_LIMIT, decode
from edge.buffer.pending import PendingRecords
from edge.buffer.segment import Segment, list_segments
from edge.buffer.watermark import WATERMARK, Watermark, read_watermark

_FRAME_BYTES_MAX = HEADER.size + RECORD_BYTES_LIMIT
_POSITIONS_LIMIT = 4  # Live, backlog and resends.


@dataclass(slots=True)
class _Position:
    """Where the record `number` is expected."""

    segment: Segment
    file: File
    number: int
    offset: int

    def read(self, end: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records from here on, at least one where it is intact, in one call to the disk."""
        try:
            # No more than there can be: the rest of a segment is empty.
            most_bytes = min(max_bytes, (end - self.number - 1) * _FRAME_BYTES_MAX)
            image = self.file.read_at(self.offset, most_bytes + _FRAME_BYTES_MAX)
        except OSError:
            return []
        epoch, at, size_bytes = self.segment.epoch, 0, 0
        found: list[tuple[int, bytes]] = []
        while self.number < end:
            frame = decode(image, at, epoch)
            if frame is None or frame.seq != self.segment.seq_of(self.number):
                break
            size_bytes += len(frame.data)
            if found and size_bytes > max_bytes:
                break
            found.append((self.number, frame.data))
            self.number += 1
            at = frame.end
        self.offset += at
        return found


class Reader:
    """Durable records by number. For one thread; each process or task opens its own."""

    def __init__(self, disk: Disk, pending: PendingRecords | None = None) -> None:
        """`pending` belongs to the store of the same process: it knows the durable end, and records that cannot be
        written, or have just been, are read from it."""
        self._disk, self._pending = disk, pending
        self._watermark_file: File | None = None
        self._watermark = Watermark()
        self._positions: dict[int, _Position] = {}

    def durable_end(self) -> int:
        """One more than the last number that may be read."""
        if self._pending is not None and self._pending.is_readable:
            return self._pending.end
        return self._disk_end()

    def oldest(self) -> int:
        """The lowest number that may still be stored."""
        segments = self._segments()
        return segments[0].number if segments else self._disk_end()

    def read(self, number: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records from this number on, ascending; at least one if there is any, else empty.

        Numbers left out are gone: dropped, damaged or never assigned.
        """
        if self._pending is not None and (recent := self._pending.read_recent(number, max_bytes)):
            return recent
        end = self._disk_end()
        if number < end:
            found = self._read_at(self._positions.pop(number, None), end, max_bytes) or self._search(
                number, end, max_bytes
            )
            if found:
                return found
        return self._pending.read(number, max_bytes) if self._pending is not None else []

    def is_at_hand(self, number: int) -> bool:
        """Whether a read from this number searches no file: it continues an earlier one, or is served from memory."""
        return number in self._positions or (self._pending is not None and self._pending.has_recent(number))

    def acknowledge(self, first: int, last: int) -> None:
        """The broker acknowledged [first, last]: pending records among them may be removed."""
        if self._pending is not None:
            self._pending.acknowledge(first, last)

    def close(self) -> None:
        """Close the files."""
        for position in self._positions.values():
            position.file.close()
        self._positions.clear()
        self._close_watermark()

    def _read_at(self, position: _Position | None, end: int, max_bytes: int) -> list[tuple[int, bytes]]:
        if position is None:
            return []
        found = position.read(end, max_bytes)
        if found:
            self._keep(position)
        else:
            position.file.close()
        return found

    def _search(self, number: int, end: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Read from the first intact record at or after `number`."""
        segments = self._segments()
        for at, segment in enumerate(segments):
            segment_end = min(segments[at + 1].number if at + 1 < len(segments) else end, end)
            if segment_end > number:
                found = self._read_at(self._find(segment, max(number, segment.number), segment_end), end, max_bytes)
                if found:
                    return [(n, data) for n, data in found if n < segment_end]
        return []

    def _find(self, segment: Segment, number: int, end: int) -> _Position | None:
        try:
            file = self._disk.open(segment.name)
        except OSError:
            return None
        frame = next(segment.frames(file, number, end), None)
        if frame is None:
            file.close()
            return None
        return _Position(segment, file, segment.number_of(frame.seq), frame.start)

    def _keep(self, position: _Position) -> None:
        replaced = self._positions.pop(position.number, None)
        if replaced is None and len(self._positions) >= _POSITIONS_LIMIT:
            replaced = self._positions.pop(next(iter(self._positions)))
        if replaced is not None:
            replaced.file.close()
        self._positions[position.number] = position

    def _segments(self) -> Sequence[Segment]:
        try:
            return list_segments(self._disk)
        except OSError:
            return ()

    def _disk_end(self) -> int:
        if self._pending is not None:
            return self._pending.first
        try:
            if self._watermark_file is not None and not self._watermark_file.is_linked():
                self._close_watermark()
            if self._watermark_file is None:
                self._watermark_file = self._disk.open(WATERMARK)
            watermark = read_watermark(self._watermark_file)
        except OSError:
            self._close_watermark()
            return self._watermark.durable_end
        self._watermark = watermark or self._watermark  # None while it is being written.
        return self._watermark.durable_end

    def _close_watermark(self) -> None:
        if self._watermark_file is not None:
            self._watermark_file.close()
            self._watermark_file = None
