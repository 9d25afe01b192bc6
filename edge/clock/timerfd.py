"""The kernel's timer descriptor, called directly: Python 3.11 has no os.timerfd_create."""

from __future__ import annotations

import ctypes
import os
import time

_CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
_ABSTIME = 1
_CANCEL_ON_SET = 2
_FAR_AHEAD_S = 10**10  # Some 300 years: this timer never fires, it is only cancelled.

# PyDLL keeps the interpreter lock: these calls do not block.
_LIBC = ctypes.PyDLL(None, use_errno=True)


class _Timerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class _TimerFd:
    """A timer descriptor, to be watched with `loop.add_reader`."""

    def __init__(self, clock: int) -> None:
        self.fd: int = _LIBC.timerfd_create(clock, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Timerspec()
        self._spec_ref = ctypes.byref(self._spec)

    def _set(self, flags: int) -> None:
        if _LIBC.timerfd_settime(self.fd, flags, self._spec_ref, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class BootTimer(_TimerFd):
    """Becomes readable at an instant of boot time, to the microsecond."""

    def __init__(self) -> None:
        super().__init__(_CLOCK_BOOTTIME)

    def arm(self, due_ns: int) -> None:
        """Fire at `due_ns`, at once if that has passed; an expiry that was not read yet is cleared."""
        self._spec.value_s, self._spec.value_ns = divmod(max(due_ns, 1), 10**9)
        self._set(_ABSTIME)

    def disarm(self) -> None:
        """Do not fire; an expiry that was not read yet is cleared."""
        self._spec.value_s = self._spec.value_ns = 0
        self._set(_ABSTIME)


class StepAlarm(_TimerFd):
    """Becomes readable at once when the system clock is set."""

    def __init__(self) -> None:
        super().__init__(time.CLOCK_REALTIME)
        self.rearm()

    def rearm(self) -> None:
        """Become readable at the next step."""
        self._spec.value_s = _FAR_AHEAD_S
        # The first call fails where a step was not read yet: the caller observes the clock anyway.
        if _LIBC.timerfd_settime(self.fd, _ABSTIME | _CANCEL_ON_SET, self._spec_ref, None):
            self._set(_ABSTIME | _CANCEL_ON_SET)
