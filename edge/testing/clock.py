"""A clock and a scheduler that are advanced by the test."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

_ITERATIONS = 40  # More than the longest chain of awaits in a scan.


class ManualClock:
    """A `Clock` that changes only when a test advances or sets it."""

    def __init__(self, boot_ns: int = 1_000_000_000, utc_ns: int = 1_767_225_600 * 10**9) -> None:
        self._boot_ns = boot_ns
        self._offset_ns = utc_ns - boot_ns
        self._steered_ns = 0
        self._suspended_ns = 0

    def boot_ns(self) -> int:
        """See `Clock.boot_ns`."""
        return self._boot_ns

    def utc_ns(self) -> int:
        """See `Clock.utc_ns`."""
        return self._boot_ns + self._offset_ns

    def steered_ns(self) -> int:
        """See `Clock.steered_ns`."""
        return self._steered_ns

    def advance_ns(self, elapsed_ns: int, *, steered_ns: int = 0) -> None:
        """Advance both clocks, which are slewed meanwhile by so much."""
        self._boot_ns += elapsed_ns + steered_ns
        self._steered_ns += steered_ns

    def suspended_ns(self) -> int:
        """See `Clock.suspended_ns`."""
        return self._suspended_ns

    def suspend_ns(self, elapsed_ns: int) -> None:
        """Advance both clocks as over a suspension of the machine."""
        self._suspended_ns += elapsed_ns
        self._boot_ns += elapsed_ns

    def step_ns(self, step_ns: int) -> None:
        """Set the system clock; boot time does not change."""
        self._offset_ns += step_ns


class ManualScheduler:
    """`edge.scan.Scheduler` on a `ManualClock`: waits end only when the test advances the clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._waits: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """See `Scheduler.call_at`."""
        self._order += 1
        heapq.heappush(self._waits, (due_ns, self._order, callback))

    def until(self, due_ns: int) -> asyncio.Future[None]:
        """See `Scheduler.until`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        self.call_at(due_ns, wake)
        return future

    async def advance_ns(self, elapsed_ns: int) -> None:
        """Advance the clock; callbacks that become due run in order, each at its due time, until all tasks wait."""
        end_ns = self._clock.boot_ns() + elapsed_ns
        await self.settle()
        while self._waits and self._waits[0][0] <= end_ns:
            due_ns, _, callback = heapq.heappop(self._waits)
            self._clock.advance_ns(max(due_ns - self._clock.boot_ns(), 0))
            callback()
            await self.settle()
        self._clock.advance_ns(end_ns - self._clock.boot_ns())

    async def settle(self) -> None:
        """Run the event loop until all tasks wait."""
        for _ in range(_ITERATIONS):
            await asyncio.sleep(0)
