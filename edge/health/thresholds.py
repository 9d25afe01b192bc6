"""Days ahead of an end at which something is said, once each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

_DAY_NS = 86_400 * 10**9

K = TypeVar("K", bound=Hashable)


class Thresholds(Generic[K]):
    """Which thresholds the ends of things have passed.

    Attributes:
        told: the smallest number of days ahead that was said, by what ends; what is kept of it is not said again.
    """

    def __init__(self, days_ahead: Sequence[int], told: Mapping[K, int] | None = None) -> None:
        self._days_ahead = days_ahead
        self.told: dict[K, int] = dict(told or {})

    def passed(self, ends_ns: Iterable[tuple[K, int]], utc_ns: int) -> list[K]:
        """What has passed a threshold since it was asked last, of all that is in use with its end."""
        told: dict[K, int] = {}
        found = []
        for key, end_ns in ends_ns:
            passed = [days for days in self._days_ahead if end_ns - utc_ns <= days * _DAY_NS]
            if passed:
                before = self.told.get(key)
                told[key] = min(passed) if before is None else min(before, *passed)
                if told[key] != before:
                    found.append(key)
        self.told = told
        return found
