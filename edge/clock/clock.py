"""The two clocks that every part of a gateway is given."""

from __future__ import annotations

import time
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


class SystemClock:
    """CLOCK_BOOTTIME and CLOCK_REALTIME of this machine."""

    def boot_ns(self) -> int:
        """See `Clock.boot_ns`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def utc_ns(self) -> int:
        """See `Clock.utc_ns`."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME)


def boot_id() -> bytes:
    """The kernel's random identifier of this boot: boot times of two boots cannot be compared."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


def read_pair(clock: Clock) -> tuple[int, int]:
    """(boot time, UTC minus boot time) of one instant: the tightest of a few tries."""
    tries = []
    for _ in range(5):
        before_ns = clock.boot_ns()
        utc_ns = clock.utc_ns()
        after_ns = clock.boot_ns()
        tries.append((after_ns - before_ns, after_ns, utc_ns - (before_ns + after_ns) // 2))
        if after_ns - before_ns < 5_000:
            break
    _, boot_ns, offset_ns = min(tries)
    return boot_ns, offset_ns
