"""How far a device's own clock is off the gateway's."""

from __future__ import annotations

from collections.abc import Callable

from edge.model import NO_TIME, Notification, Reading


class DeviceClockMonitor:
    """Reports when a device's clock leaves its limit, and when it is back.

    A source time may be as old as the value; one in the future can only mean a clock that is ahead.
    """

    def __init__(self, limit_ns: int, utc_of: Callable[[int], int]) -> None:
        self._limit_ns = limit_ns
        self._utc_of = utc_of
        self._was_off = False

    def check(self, answer: Reading | Notification) -> dict[str, str | int | None] | None:
        """The data of an event when the clock has left its limit or come back within it; else None.

        An answer without any time, such as a keep-alive, decides nothing.
        """
        newest_ns = max((int(times.max()) for times in answer.source_times or () if len(times)), default=NO_TIME)
        if answer.device_time_ns is None and newest_ns == NO_TIME:
            return None
        off_ns, clock = self._off_ns(answer, newest_ns)
        is_off = abs(off_ns) > self._limit_ns
        if is_off == self._was_off:
            return None
        self._was_off = is_off
        state = "off" if is_off else "within its limit again"
        return {"state": state, "clock": clock, "off_ns": off_ns, "limit_ns": self._limit_ns}

    def _off_ns(self, answer: Reading | Notification, newest_ns: int) -> tuple[int, str]:
        """How far the clock is ahead (negative: behind). A difference within the answer's own duration counts as 0."""
        asked_ns, answered_ns = self._utc_of(answer.asked_at_ns), self._utc_of(answer.answered_at_ns)
        off_ns = 0
        if answer.device_time_ns is not None:
            off_ns = max(answer.device_time_ns - answered_ns, 0) or min(answer.device_time_ns - asked_ns, 0)
        ahead_ns = newest_ns - answered_ns
        return (ahead_ns, "source times") if ahead_ns > max(abs(off_ns), self._limit_ns) else (off_ns, "device")
