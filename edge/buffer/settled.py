"""Record numbers nobody waits for any more: delivered, as the sender's cursor says, or declared lost."""

from __future__ import annotations

import contextlib

from edge.buffer.cursor import CURSOR, DECLARED, Cursor, read_slots
from edge.buffer.disk import Disk
from edge.buffer.intervals import Intervals
from edge.buffer.segment import Damage


class CompletedNumbers:
    """The writer's view: the cursor is another's and only read, what was declared is its own."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._declared = Cursor(disk, DECLARED)

    def numbers(self) -> Intervals:
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


def undeclared(damage: Damage, settled: Intervals) -> list[Damage]:
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
