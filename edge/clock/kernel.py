"""The kernel as a time source: it knows whether its clock is disciplined, but not how well."""

from __future__ import annotations

import ctypes

from edge.clock.quality import TimeSource, TimeState
from edge.clock.source import SourceReport, SourceSilent

_STA_INS, _STA_DEL, _STA_UNSYNC = 0x10, 0x20, 0x40
_TIME_ERROR = 5
_LIBC = ctypes.PyDLL(None, use_errno=True)


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("pps", ctypes.c_long * 3),
        ("pps_more", ctypes.c_long * 5),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


class KernelSource:
    """adjtimex(2), for reading only."""

    async def ask(self) -> SourceReport:
        """See `ClockSource.ask`."""
        timex = _Timex()
        verdict = _LIBC.adjtimex(ctypes.byref(timex))
        if verdict < 0:
            raise SourceSilent(f"the kernel refuses adjtimex (errno {ctypes.get_errno()})")
        return judge(timex.status, verdict, timex.tai, timex.maxerror)


def judge(status: int, verdict: int, tai_s: int, maxerror_us: int) -> SourceReport:
    """The quality of the clock according to the kernel's flags.

    `maxerror` is not a bound but the value last set, which may be the default: it is reported in events only.
    """
    is_synchronized = not status & _STA_UNSYNC and verdict != _TIME_ERROR
    inserts_or_deletes = 1 if status & _STA_INS else 2 if status & _STA_DEL else 0
    return SourceReport(
        source=TimeSource.KERNEL,
        state=TimeState.SYNCHRONIZED if is_synchronized else TimeState.FREE_RUNNING,
        leap=inserts_or_deletes if is_synchronized else 3,
        utc_tai_s=tai_s or None,
        detail={"maxerror_us": maxerror_us, "status": status},
    )
