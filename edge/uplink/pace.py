"""How much of the backlog may be on its way, so that fresh records never queue long behind it."""

from __future__ import annotations

_SAMPLE_NS = 100 * 10**6
_SMOOTHING = 0.3
_AHEAD_S = 1.0


class Pace:
    """Measures one connection by its acknowledgements: bytes per second while busy, and the shortest round trip."""

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self.round_trip_ns = 0
        self._busy_ns = 0
        self._busy_from_ns: int | None = None
        self._bytes = 0

    def sent(self, now_ns: int) -> None:
        """Something leaves."""
        if self._busy_from_ns is None:
            self._busy_from_ns = now_ns

    def acknowledged(self, now_ns: int, sent_at_ns: int, size_bytes: int, *, is_idle: bool) -> None:
        """Something arrived; `is_idle` when nothing else is on its way."""
        took_ns = now_ns - sent_at_ns
        # Never let it grow: a round trip through our own backlog would make room for more backlog.
        self.round_trip_ns = min(took_ns, self.round_trip_ns or took_ns)
        # Only time in which the link had work says how fast it is.
        self._busy_ns += now_ns - (now_ns if self._busy_from_ns is None else self._busy_from_ns)
        self._busy_from_ns = None if is_idle else now_ns
        self._bytes += size_bytes
        if self._busy_ns >= max(_SAMPLE_NS, 2 * self.round_trip_ns):
            rate = self._bytes * 1e9 / self._busy_ns
            self.bytes_per_s += (rate - self.bytes_per_s) * (_SMOOTHING if self.bytes_per_s else 1.0)
            self._bytes = self._busy_ns = 0

    def backlog_bytes(self, share: float) -> float:
        """What the link holds by itself, and `share` of what it moves in a second."""
        return self.bytes_per_s * (self.round_trip_ns / 1e9 + share * _AHEAD_S)
