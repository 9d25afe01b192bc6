"""Delays before the next attempt: growing, jittered and bounded."""

from __future__ import annotations

from random import Random

_NS = 10**9


class Backoff:
    """1 s, 2 s, 4 s ... up to a limit, each shortened at random so that the gateways of a plant spread their attempts.

    Attributes:
        failures: delays given since the last `reset`.
        is_at_limit: the last delay was the longest one, before the jitter.
    """

    def __init__(self, random: Random, first_ns: int = _NS, limit_ns: int = 60 * _NS) -> None:
        self.failures = 0
        self.is_at_limit = False
        self._random = random
        self._first_ns, self._limit_ns = first_ns, max(first_ns, limit_ns)
        self._whole_ns = first_ns

    def next_ns(self, *, at_limit: bool = False) -> int:
        """The next delay, between half of it and all of it; `at_limit` asks for the longest at once."""
        whole_ns = self._limit_ns if at_limit else self._whole_ns
        self._whole_ns = min(2 * self._whole_ns, self._limit_ns)
        self.failures += 1
        self.is_at_limit = whole_ns == self._limit_ns
        return round(whole_ns * self._random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """Begin with the first delay again."""
        self.failures, self.is_at_limit = 0, False
        self._whole_ns = self._first_ns
