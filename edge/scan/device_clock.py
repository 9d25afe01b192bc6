"""How far a device's own clock is off the gateway's.

A device states its time while it answers, so each answer limits how far it can be off to an interval as long as the
answer took. The intervals of many answers overlap, and their intersection is the estimate; it widens with age by what
clocks drift. An answer outside of it means that one of both clocks was set: the estimate begins anew.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.model import NO_TIME, Notification, Reading

_DRIFT_PPB = 200_000
_BACK_SHARE = 0.9  # Of the limit: a clock at its limit is one change, not one for each answer.


class DeviceClockMonitor:
    """Estimates how far a device's clock is off, and reports when it leaves its limit and when it is back.

    A source time may be as old as the value; one in the future can only mean a clock that is ahead.

    Attributes:
        limit_ns: how far the clock may be off before that is an event; None where it may be off by any time.
    """

    def __init__(self, limit_ns: int | None, utc_of: Callable[[int], int]) -> None:
        self.limit_ns = limit_ns
        self._utc_of = utc_of
        self._least_ns, self._most_ns, self._at_ns = 0, 0, 0
        self._is_known = self._was_off = False

    @property
    def off_ns(self) -> int | None:
        """How far the clock is ahead, negative where it is behind; None where the device did not say its time."""
        return (self._least_ns + self._most_ns) // 2 if self._is_known else None

    @property
    def unsure_ns(self) -> int:
        """How far that may be from the truth, as of the last answer."""
        return (self._most_ns - self._least_ns + 1) // 2

    def check(self, answer: Reading | Notification) -> dict[str, str | int | None] | None:
        """The data of an event when the clock has left its limit or come back within it; else None.

        An answer without any time, such as a keep-alive, decides nothing.
        """
        if answer.device_time_ns is not None:
            within_ns = answer.device_time_within_ns if isinstance(answer, Reading) else None
            self._estimate(answer.device_time_ns, *(within_ns or (answer.asked_at_ns, answer.answered_at_ns)))
        if (limit_ns := self.limit_ns) is None:
            return None
        newest_ns = max((int(times.max()) for times in answer.source_times or () if len(times)), default=NO_TIME)
        if answer.device_time_ns is None and newest_ns == NO_TIME:
            return None
        off_ns, clock = self._off(answer, newest_ns, limit_ns)
        is_off = abs(off_ns) > (limit_ns * _BACK_SHARE if self._was_off else limit_ns)
        if is_off == self._was_off:
            return None
        self._was_off = is_off
        state = "off" if is_off else "within its limit again"
        return {"state": state, "clock": clock, "off_ns": off_ns, "limit_ns": limit_ns}

    def _estimate(self, device_ns: int, asked_ns: int, answered_ns: int) -> None:
        least_ns, most_ns = device_ns - self._utc_of(answered_ns), device_ns - self._utc_of(asked_ns)
        if self._is_known:
            drift_ns = max(answered_ns - self._at_ns, 0) * _DRIFT_PPB // 10**9
            low_ns, high_ns = max(least_ns, self._least_ns - drift_ns), min(most_ns, self._most_ns + drift_ns)
            if low_ns <= high_ns:
                least_ns, most_ns = low_ns, high_ns
        self._least_ns, self._most_ns, self._at_ns = least_ns, most_ns, answered_ns
        self._is_known = True

    def _off(self, answer: Reading | Notification, newest_ns: int, limit_ns: int) -> tuple[int, str]:
        """How far the clock is ahead (negative: behind) at least."""
        off_ns = 0 if answer.device_time_ns is None else max(self._least_ns, 0) or min(self._most_ns, 0)
        ahead_ns = newest_ns - self._utc_of(answer.answered_at_ns)
        return (ahead_ns, "source times") if ahead_ns > max(abs(off_ns), limit_ns) else (off_ns, "device")
