"""Sets of record numbers, as few sorted intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
"""(first, last), both included."""


class Intervals:
    """Disjoint, ascending intervals that do not touch."""

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in intervals:
            self.add(first, last)

    def __iter__(self) -> Iterator[Interval]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    @property
    def end(self) -> int:
        """One more than the greatest number, 0 when empty."""
        return self._lasts[-1] + 1 if self._lasts else 0

    def add(self, first: int, last: int) -> None:
        """Put all of [first, last] into the set."""
        if self._lasts and first == self._lasts[-1] + 1:  # By far the most frequent: the next record in order.
            self._lasts[-1] = last
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def missing(self, first: int, last: int) -> Iterator[Interval]:
        """The parts of [first, last] that are not in the set, ascending."""
        for at in range(bisect_left(self._lasts, first), len(self._firsts)):
            if self._firsts[at] > last:
                break
            if self._firsts[at] > first:
                yield first, self._firsts[at] - 1
            first = self._lasts[at] + 1
        if first <= last:
            yield first, last

    def clipped(self, first: int) -> Iterator[Interval]:
        """What of them is not below `first`."""
        return ((max(low, first), high) for low, high in self if high >= first)

    def longest(self, count: int) -> Intervals:
        """The `count` longest of them: what a place of limited size can remember."""
        kept = sorted(self, key=lambda interval: interval[0] - interval[1])[:count]
        return Intervals(sorted(kept))

    def union(self, other: Intervals) -> Intervals:
        """Both."""
        return Intervals([*self, *other])
