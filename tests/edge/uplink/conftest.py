"""What the uplink's tests share: an embedded broker, a source in memory, a forwarder between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest

from edge.clock import SystemClock
from edge.uplink import BrokerAccess, Delivery, Forwarder, Publisher, connect
from tests.support.faulty_broker import FaultyBroker
from tests.support.source import MemorySource


@pytest.fixture
async def broker() -> AsyncIterator[FaultyBroker]:
    async with FaultyBroker() as running:
        running.script.answer = lambda message, count: 0
        yield running


@pytest.fixture
def access(broker: FaultyBroker) -> BrokerAccess:
    return BrokerAccess(host="127.0.0.1", port=broker.port, client_id="urn:tidegate:line-4", connect_timeout_s=5)


@pytest.fixture
async def open_publisher(access: BrokerAccess) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Publisher] = []

    async def open_one(**changes: Any) -> Publisher:
        fields = {name: getattr(access, name) for name in access.__dataclass_fields__} | changes
        will = fields.pop("will", None)
        on_change = fields.pop("on_change", lambda: None)
        publisher = await connect(BrokerAccess(**fields), clock=SystemClock(), on_change=on_change, will=will)
        opened.append(publisher)
        return publisher

    yield open_one
    for publisher in opened:
        await publisher.disconnect_gracefully()


class Running:
    """A forwarder at work, and what it reported."""

    def __init__(self, source: MemorySource, access: BrokerAccess, clock: Any, **delivery: Any) -> None:
        self.source = source
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.changed = asyncio.Event()
        self.forwarder = Forwarder(
            source, access, Delivery(gateway="line-4", **delivery), clock=clock, random=Random(4), report=self._report
        )
        acknowledge = source.acknowledge

        def noticed(first: int, last: int) -> None:
            acknowledge(first, last)
            self.changed.set()

        source.acknowledge = noticed  # type: ignore[method-assign]

    def _report(self, kind: str, severity: str, data: Any) -> None:
        self.events.append((kind, severity, dict(data)))
        self.changed.set()

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.events]

    def append(self, *records: bytes) -> None:
        for record in records:
            self.source.append(record)
        self.forwarder.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            with contextlib.suppress(TimeoutError):  # Not all that a test looks at is an event.
                await asyncio.wait_for(self.changed.wait(), 0.005)

    async def until_delivered(self) -> None:
        await self.until(lambda: self.source.is_delivered)


@pytest.fixture
async def forward(access: BrokerAccess) -> AsyncIterator[Callable[..., Running]]:
    tasks: list[asyncio.Task[None]] = []

    def start(source: MemorySource, *, clock: Any = None, **changes: Any) -> Running:
        own = {key: changes.pop(key) for key in list(changes) if key in access.__dataclass_fields__}
        fields = {name: getattr(access, name) for name in access.__dataclass_fields__} | own
        running = Running(source, BrokerAccess(**fields), clock or SystemClock(), **changes)
        tasks.append(asyncio.create_task(running.forwarder.run()))
        running.task = tasks[-1]  # type: ignore[attr-defined]
        return running

    yield start
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
