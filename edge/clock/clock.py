"""The two clocks everything is handed."""

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
    """Sixteen random bytes the kernel drew at this boot: boot time means nothing across two of them."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
