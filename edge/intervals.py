"""Sets of whole numbers as few sorted intervals: record numbers, sequence numbers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
"""(first, last), both included."""


class IntervalSet:
    """Disjoint, ascending intervals that do not touch. Iterating gives the intervals, `count` is how many numbers."""

    __slots__ = ("_firsts", "_lasts", "count")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.count = 0
        for first, last in intervals:
            self.add(first, last)

    def __iter__(self) -> Iterator[Interval]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __len__(self) -> int:
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._lasts, number)
        return at < len(self._lasts) and self._firsts[at] <= number

    @property
    def first(self) -> Interval:
        """The lowest interval; there must be one."""
        return self._firsts[0], self._lasts[0]

    @property
    def end(self) -> int:
        """One more than the greatest number, 0 when empty."""
        return self._lasts[-1] + 1 if self._lasts else 0

    def add(self, first: int, last: int) -> None:
        """Include all of [first, last]; nothing when it is empty."""
        if first > last:
            return
        if self._lasts and first == self._lasts[-1] + 1:  # By far the most frequent: the next record in order.
            self._lasts[-1] = last
            self.count += last - first + 1
            return
        low, high = bisect_left(self._lasts, first - 1), bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._replace(low, high, [(first, last)])

    def discard(self, first: int, last: int) -> None:
        """Exclude all of [first, last]; nothing when it is empty."""
        if first > last:
            return
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if low < high:
            ends = (self._firsts[low], first - 1), (last + 1, self._lasts[high - 1])
            self._replace(low, high, [each for each in ends if each[0] <= each[1]])

    def clear(self) -> None:
        """Exclude everything."""
        self._replace(0, len(self._firsts), [])

    def within(self, first: int, last: int) -> Iterator[Interval]:
        """The parts of [first, last] that are in the set, ascending."""
        for at in range(bisect_left(self._lasts, first), bisect_right(self._firsts, last)):
            yield max(first, self._firsts[at]), min(last, self._lasts[at])

    def missing(self, first: int, last: int) -> Iterator[Interval]:
        """The parts of [first, last] that are not in the set, ascending."""
        for low, high in self.within(first, last):
            if first < low:
                yield first, low - 1
            first = high + 1
        if first <= last:
            yield first, last

    def longest(self, count: int) -> IntervalSet:
        """The `count` longest intervals: what storage of limited size can remember."""
        return IntervalSet(sorted(sorted(self, key=lambda interval: interval[0] - interval[1])[:count]))

    def union(self, other: IntervalSet) -> IntervalSet:
        """Both."""
        return IntervalSet([*self, *other])

    def _replace(self, low: int, high: int, intervals: list[Interval]) -> None:
        self.count += sum(last - first + 1 for first, last in intervals)
        self.count -= sum(self._lasts[low:high]) - sum(self._firsts[low:high]) + high - low
        self._firsts[low:high] = [first for first, _ in intervals]
        self._lasts[low:high] = [last for _, last in intervals]
