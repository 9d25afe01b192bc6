"""The range that a report is about, in places of one chain or in time, and which places of a chain belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.intervals import Interval
from edge.seal.cose import MAX_SEQ


@dataclass(frozen=True, slots=True)
class Window:
    """Records `first` to `last` of a chain, or those of a range of UTC, ends included; None leaves an end open."""

    first: int = 0
    last: int | None = None
    from_ns: int | None = None
    to_ns: int | None = None

    @property
    def is_time(self) -> bool:
        """Whether it is a range of UTC."""
        return self.from_ns is not None or self.to_ns is not None

    def side(self, seq: int, low_ns: int, high_ns: int) -> int:
        """-1 for a record before the window, 0 for one in it, 1 for one after it."""
        if self.is_time:
            if self.from_ns is not None and high_ns < self.from_ns:
                return -1
            return int(self.to_ns is not None and low_ns > self.to_ns)
        return -1 if seq < self.first else int(self.last is not None and seq > self.last)


EVERYTHING = Window()


@dataclass(slots=True)
class Bounds:
    """The places of a chain's DATA before, in and after a window of time, noted in any order; -1 where there are none.

    Only DATA count: they are sealed when they were read, and at least every 10 s.
    """

    last_before: int = -1
    first_in: int = -1
    last_in: int = -1
    first_after: int = -1

    def note(self, side: int, seq: int) -> None:
        """Count a DATA record before, in or after the window."""
        if side < 0:
            self.last_before = max(self.last_before, seq)
        elif side > 0:
            self.first_after = seq if self.first_after < 0 else min(self.first_after, seq)
        else:
            self.first_in = seq if self.first_in < 0 else min(self.first_in, seq)
            self.last_in = max(self.last_in, seq)

    @property
    def is_before(self) -> bool:
        """Whether everything noted lies before the window."""
        return self.first_in < 0 and self.first_after < 0

    def places(self, runs: Sequence[Interval]) -> Interval | None:
        """The places that belong to the window, or None where the chain has no part in it.

        What is absent between the window and the nearest record held on either side may lie in it.

        Args:
            runs: the ranges of records that are held, ascending.
        """
        if self.first_in < 0:
            between = self.last_before + 1, self.first_after - 1
            return between if 0 < between[0] <= between[1] else None
        first, last = self.first_in, self.last_in
        if any(low == first for low, _ in runs):
            first = max((high + 1 for _, high in runs if high < first), default=0)
        if any(high == last for _, high in runs):
            last = min((low - 1 for low, _ in runs if low > last), default=MAX_SEQ)
        return first, last
