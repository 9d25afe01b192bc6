"""A device in memory with a complete driver; a test can make it fail at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from edge.clock import Clock
from edge.driver import PlanCost
from edge.model import DataType, Identity, Layout, Notification, Reading, StatusRun, Times, Vector


class _Timer(Protocol):
    def until(self, due_ns: int) -> asyncio.Future[None]: ...


@dataclass(frozen=True)
class MemoryPlan:
    """The plan of a device in memory."""

    layout: Layout

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`."""
        return PlanCost(tags=len(self.layout), requests=1, request_bytes=0, answer_bytes=0, took_ns=0)

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        return (f"{len(self.layout)} values from memory",)


class MemoryDevice:
    """A device in memory, its driver and its session.

    Attributes:
        answer_ns: the time to answer.
        connect_ns: the time to open a session.
        is_hanging: accepts connections and never answers.
        refusal: raised at every attempt to connect.
        failure: raised at every read.
        status: put in every reading.
        violations: put in every reading.
        vectors: the values by layout; a layout without values gets the number of reads.
        firmware: part of its identity.
        reads: attempts to read it.
        connects: attempts to open a session.
        sessions: number of open sessions.
        source_times: put in every reading.
        device_time_ns: put in every reading.
        notify: callbacks for notifications of subscribed groups, by layout.
    """

    def __init__(self, clock: Clock, timer: _Timer) -> None:
        self.answer_ns = 0
        self.connect_ns = 0
        self.is_hanging = False
        self.refusal: Exception | None = None
        self.failure: Exception | None = None
        self.status: tuple[StatusRun, ...] = ()
        self.violations: tuple[str, ...] = ()
        self.vectors: dict[Layout, tuple[Vector, ...]] = {}
        self.firmware = "1.0"
        self.reads = 0
        self.connects = 0
        self.sessions = 0
        self.source_times: tuple[Times, ...] | None = None
        self.device_time_ns: int | None = None
        self.notify: dict[Layout, Callable[[Notification], None]] = {}
        self.wakes = asyncio.Event()
        self._clock = clock
        self._timer = timer

    def plan(self, tags: Sequence[Any]) -> MemoryPlan:
        """See `edge.driver.Driver.plan`."""
        return MemoryPlan(Layout(tuple(tag.data_type for tag in tags)))

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[MemoryDevice]:
        """See `edge.driver.Driver.connect`."""
        self.connects += 1
        if self.connect_ns:
            await self._timer.until(self._clock.boot_ns() + self.connect_ns)
        if self.refusal is not None:
            raise self.refusal
        self.sessions += 1
        try:
            yield self
        finally:
            self.sessions -= 1

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        return Identity(vendor="Tidegate", product="memory", firmware=self.firmware, serial="1")

    async def receive_notifications(
        self, plan: MemoryPlan, on_notification: Callable[[Notification], None]
    ) -> NoReturn:
        """See `edge.driver.Subscribable`: a test calls `notify`, until it calls `fail`."""
        self.notify[plan.layout] = on_notification
        self.wakes = asyncio.Event()
        await self.wakes.wait()
        assert self.failure is not None
        raise self.failure

    def fail(self, failure: Exception) -> None:
        """Lose the session that receives notifications."""
        self.failure = failure
        self.wakes.set()

    async def read(self, plan: MemoryPlan) -> Reading:
        """See `edge.driver.Session.read`."""
        self.reads += 1
        asked_at_ns = self._clock.boot_ns()
        if self.answer_ns:
            await self._timer.until(asked_at_ns + self.answer_ns)
        if self.is_hanging:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        vectors = self.vectors.get(plan.layout) or self._counting(plan.layout)
        return Reading(
            vectors, asked_at_ns, self._clock.boot_ns(), self.status, self.violations, self.source_times,
            self.device_time_ns,
        )  # fmt: skip

    def _counting(self, layout: Layout) -> tuple[Vector, ...]:
        vectors = layout.empty()
        for data_type, vector in zip(layout.vector_types, vectors, strict=True):
            vector.fill(str(self.reads) if data_type is DataType.TEXT else self.reads % 100)
        return vectors
