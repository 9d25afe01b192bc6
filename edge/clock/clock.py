"""The two clocks that every part of a gateway is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Stamps use boot time, which never steps; UTC may."""

    def boot_ns(self) -> int:
        """Nanoseconds since boot, suspended time included; never steps, never goes back."""
        ...

    def utc_ns(self) -> int:
        """Nanoseconds since 1970 UTC as the system clock has it; may step."""
        ...

    def steered_ns(self) -> int:
        """By how much boot time and UTC have been slewed since boot, in nanoseconds: against a clock that never is."""
        ...

    def suspended_ns(self) -> int:
        """For how much of the boot time the machine was suspended, at most: the thread may pause while it looks."""
        ...


class SystemClock:
    """CLOCK_BOOTTIME and CLOCK_REALTIME of this machine, and CLOCK_MONOTONIC_RAW, which nothing steers."""

    def boot_ns(self) -> int:
        """See `Clock.boot_ns`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def utc_ns(self) -> int:
        """See `Clock.utc_ns`."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME)

    def steered_ns(self) -> int:
        """See `Clock.steered_ns`."""
        _, raw_ns = _tightest(_monotonic_ns, _raw_ns)  # Neither counts what was suspended.
        return -raw_ns

    def suspended_ns(self) -> int:
        """See `Clock.suspended_ns`."""
        awake_ns = _monotonic_ns()
        return self.boot_ns() - awake_ns


def boot_id() -> bytes:
    """The kernel's random identifier of this boot: boot times of two boots cannot be compared."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


def read_pair(clock: Clock) -> tuple[int, int]:
    """(boot time, UTC minus boot time) of one instant: the tightest of a few tries."""
    return _tightest(clock.boot_ns, clock.utc_ns)


def _tightest(one_ns: Callable[[], int], other_ns: Callable[[], int]) -> tuple[int, int]:
    tries = []
    for _ in range(5):
        before_ns = one_ns()
        at_ns = other_ns()
        after_ns = one_ns()
        tries.append((after_ns - before_ns, after_ns, at_ns - (before_ns + after_ns) // 2))
        if after_ns - before_ns < 5_000:
            break
    _, last_ns, apart_ns = min(tries)
    return last_ns, apart_ns


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _raw_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
