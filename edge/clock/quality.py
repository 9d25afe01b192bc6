"""Time quality: what disciplines the clock, and how far it may be off (the TQ of every DATA record)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

DEFAULT_DRIFT_PPB = 50_000


class TimeSource(IntEnum):
    """What disciplines the system clock."""

    NONE = 0
    CHRONY = 1
    PTP4L = 2
    KERNEL = 3
    RTC = 4


class TimeState(IntEnum):
    """How far the source can be trusted."""

    UNKNOWN = 0
    SYNCHRONIZED = 1
    HOLDOVER = 2
    FREE_RUNNING = 3
    DISRUPTED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeQuality:
    """What is known about the clock, as of one instant of boot time.

    Attributes:
        bound_ns: how far UTC may be off as of `as_of_ns`; None where no bound can be given: it is never guessed.
        drift_ppb: by how much the bound grows with age.
        offset_ns: UTC minus boot time at `as_of_ns`.
        leap: leap indicator of the source (0 none, 1 insert, 2 delete, 3 not synchronized).
        reference: the source's own reference identifier.
        stratum: NTP stratum or PTP clockClass.
        accuracy: PTP clockAccuracy; None without PTP.
    """

    source: TimeSource = TimeSource.NONE
    state: TimeState = TimeState.UNKNOWN
    bound_ns: int | None = None
    drift_ppb: int = DEFAULT_DRIFT_PPB
    as_of_ns: int
    offset_ns: int
    leap: int = 0
    utc_tai_s: int | None = None
    reference: bytes = b""
    stratum: int = 0
    accuracy: int | None = None
    boot_id: bytes

    def bound_at(self, boot_ns: int) -> int | None:
        """How far UTC may be off at another instant: the bound grows with the distance in time."""
        if self.bound_ns is None:
            return None
        return self.bound_ns + -(-self.drift_ppb * abs(boot_ns - self.as_of_ns) // 10**9)

    def at(self, boot_ns: int) -> TimeQuality:
        """The same, as of another instant."""
        return replace(self, as_of_ns=boot_ns, bound_ns=self.bound_at(boot_ns))
