"""Growing, jittered delays."""

from __future__ import annotations

from random import Random

_NS = 10**9


class Backoff:
    """1 s, 2 s, 4 s ... up to a limit, each shortened by chance so that a plant's gateways do not come back at once."""

    def __init__(self, random: Random, first_ns: int = _NS, limit_ns: int = 60 * _NS) -> None:
        self._random, self._first_ns, self._limit_ns = random, first_ns, limit_ns
        self._whole_ns = first_ns

    def next_ns(self) -> int:
        """The next delay: between half of it and all of it."""
        whole_ns, self._whole_ns = self._whole_ns, min(2 * self._whole_ns, self._limit_ns)
        return round(whole_ns * self._random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """Begin with the first delay again."""
        self._whole_ns = self._first_ns
