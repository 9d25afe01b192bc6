"""Looking for damage while the gateway runs: ten gigabytes are not read before the first scan."""

from __future__ import annotations

from edge.buffer.disk import Disk
from edge.buffer.segment import Damage, Segment, damages, list_segments
from edge.buffer.settled import CompletedNumbers, undeclared
from edge.buffer.shelf import SegmentStorage


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
