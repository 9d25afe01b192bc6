"""When each scan is due: one kernel timer and one heap for every scan group of the gateway."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edge.clock import Clock
from edge.clock.timerfd import BootTimer


@dataclass(frozen=True, slots=True)
class Grid:
    """The due times of a scan group: every `interval_ns` of boot time, from `phase_ns`."""

    interval_ns: int
    phase_ns: int = 0

    def index(self, boot_ns: int) -> int:
        """Number of the last due time at or before `boot_ns`."""
        return (boot_ns - self.phase_ns) // self.interval_ns

    def due_ns(self, index: int) -> int:
        """Boot time of a due time."""
        return self.phase_ns + index * self.interval_ns


class Timer(Protocol):
    """Waiting for boot time."""

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Call back once, at `due_ns` or just after; if that has passed, with the next turn of the event loop."""
        ...

    def until(self, due_ns: int) -> asyncio.Future[None]:
        """A future that is done at `due_ns` or just after; it may be cancelled."""
        ...


class Scheduler:
    """Calls back and completes futures at instants of boot time, in the event loop that opened its block.

    Loop timers are not exact enough: those of uvloop have whole milliseconds and may fire early.
    """

    def __init__(self, clock: Clock) -> None:
        self._boot_ns = clock.boot_ns
        self._waits: list[tuple[int, int, asyncio.Future[None] | Callable[[], None]]] = []
        self._order = 0
        self._armed_ns: int | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._timer = BootTimer()
        self._loop.add_reader(self._timer.fd, self._fire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._timer.fd)
        self._timer.close()

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """See `Timer.call_at`."""
        self._push(due_ns, callback)

    def until(self, due_ns: int) -> asyncio.Future[None]:
        """See `Timer.until`."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._push(due_ns, future)
        return future

    def _push(self, due_ns: int, waiter: asyncio.Future[None] | Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._waits, (due_ns, self._order, waiter))
        if self._armed_ns is None or due_ns < self._armed_ns:
            self._armed_ns = due_ns
            self._timer.arm(due_ns)

    def _fire(self) -> None:
        waits, boot_ns = self._waits, self._boot_ns
        now_ns = boot_ns()
        while waits and waits[0][0] <= now_ns:
            waiter = heapq.heappop(waits)[2]
            if callable(waiter):
                waiter()
            elif not waiter.done():
                waiter.set_result(None)
        # Arming again makes the descriptor unreadable too, which saves reading it.
        if waits:
            self._armed_ns = waits[0][0]
            self._timer.arm(self._armed_ns)
        else:
            self._armed_ns = None
            self._timer.disarm()
