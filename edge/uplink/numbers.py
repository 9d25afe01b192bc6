"""A set of record numbers as few sorted intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Numbers:
    """Disjoint intervals (first, last), ascending, that do not touch."""

    __slots__ = ("_count", "_firsts", "_lasts")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._count = 0
        for first, last in intervals:
            self.add(first, last)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._lasts, number)
        return at < len(self._lasts) and self._firsts[at] <= number

    @property
    def first(self) -> tuple[int, int]:
        """The lowest interval; there must be one."""
        return self._firsts[0], self._lasts[0]

    def add(self, first: int, last: int) -> None:
        """Put [first, last] into the set; nothing when it is empty."""
        if first > last:
            return
        low, high = bisect_left(self._lasts, first - 1), bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._replace(low, high, [first], [last])

    def discard(self, first: int, last: int) -> None:
        """Take whatever of [first, last] is in the set out of it."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if low >= high:
            return
        below, above = self._firsts[low], self._lasts[high - 1]
        firsts = ([below] if below < first else []) + ([last + 1] if above > last else [])
        lasts = ([first - 1] if below < first else []) + ([above] if above > last else [])
        self._replace(low, high, firsts, lasts)

    def clear(self) -> None:
        """Take everything out."""
        self._replace(0, len(self._firsts), [], [])

    def _replace(self, low: int, high: int, firsts: list[int], lasts: list[int]) -> None:
        self._count -= sum(self._lasts[low:high]) - sum(self._firsts[low:high]) + max(high - low, 0)
        self._count += sum(lasts) - sum(firsts) + len(firsts)
        self._firsts[low:high] = firsts
        self._lasts[low:high] = lasts
