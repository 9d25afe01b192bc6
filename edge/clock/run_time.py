"""How long a thread ran or was ready to run: what tells a busy process from one that was suspended."""

from __future__ import annotations

import os
import time

_NS_FIELDS = 2  # Time on a processor, and time spent waiting for one; both in ns.


class RunTime:
    """The run time of the thread that made it. One that is stopped, frozen or asleep has none."""

    def __init__(self) -> None:
        try:
            self._fd: int | None = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # A kernel without it: what the thread waited is then not known.
            self._fd = None

    def __call__(self) -> int:
        """Nanoseconds so far."""
        if self._fd is None:
            return time.thread_time_ns()
        return sum(map(int, os.pread(self._fd, 100, 0).split()[:_NS_FIELDS]))

    def close(self) -> None:
        """Close what it reads from."""
        if self._fd is not None:
            os.close(self._fd)
