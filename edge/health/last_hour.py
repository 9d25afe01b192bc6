"""How much counters grew within the last hour, from a sample a minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

SAMPLE_EVERY_S = 60.0
_SAMPLES = 61
_RATE_AFTER_NS = 60 * 10**9
_DAY_NS = 86_400 * 10**9


class LastHour:
    """Samples of counters that begin with the process; what is older than an hour is forgotten."""

    def __init__(self, began_ns: int, counters: Mapping[str, int]) -> None:
        self._samples = deque([(began_ns, counters)], maxlen=_SAMPLES)

    def note(self, now_ns: int, counters: Mapping[str, int]) -> None:
        """Keep the values of all counters; called once in `SAMPLE_EVERY_S`."""
        self._samples.append((now_ns, counters))

    def growth(self, name: str, value: int) -> int:
        """By how much a counter that is `value` now grew within the last hour, or since the start."""
        return value - self._samples[0][1].get(name, 0)

    def per_day(self, name: str, value: int, now_ns: int) -> int | None:
        """The same as a rate; None while the process is too young for one."""
        elapsed_ns = now_ns - self._samples[0][0]
        return None if elapsed_ns < _RATE_AFTER_NS else self.growth(name, value) * _DAY_NS // elapsed_ns
