"""A subscription that is read as if it were polled.

Every notification is a reading, in which tags without a value are BAD: the checks of readings check notifications too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from drivers.opcua import OpcuaDriver, OpcuaKind
from drivers.opcua.plan import SubscriptionPlan
from drivers.opcua.settings import OpcuaDevice, OpcuaScanGroup
from edge.clock import Clock
from edge.config.validate import settings_from
from edge.errors import TidegateError
from edge.model import Identity, Notification, Reading, StatusCode, status_runs

_READINGS_LIMIT = 64
_GROUP = {"every": "30 ms", "subscribe": {"keep_alive": "100 ms"}}


class SubscribedKind(OpcuaKind):
    """OPC UA, subscribed."""

    def driver(self, device: OpcuaDevice, clock: Clock) -> Any:
        """See `edge.driver.DriverKind.driver`."""
        return SubscribedDriver(super().driver(device, clock))


class SubscribedDriver:
    """See `edge.driver.Driver`; its plans are subscriptions."""

    def __init__(self, driver: OpcuaDriver) -> None:
        self._driver = driver

    def plan(self, tags: Sequence[Any]) -> SubscriptionPlan:
        """See `edge.driver.Driver.plan`."""
        group = replace(settings_from(OpcuaScanGroup, _GROUP), tags=tags)
        return self._driver.plan_subscription(group)

    def connect(self) -> AbstractAsyncContextManager[SubscribedSession]:
        """See `edge.driver.Driver.connect`."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[SubscribedSession]:
        async with self._driver.connect() as session:
            subscribed = SubscribedSession(session)
            try:
                yield subscribed
            finally:
                await subscribed.end()


class SubscribedSession:
    """See `edge.driver.Session`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._receiving: asyncio.Task[None] | None = None
        self._readings: deque[Reading] = deque(maxlen=_READINGS_LIMIT)
        self._notified = asyncio.Event()

    async def read(self, plan: SubscriptionPlan) -> Reading:
        """The next notification. Raises as `Subscribable.receive_notifications`."""
        if self._receiving is None:
            on_notification: Callable[[Notification], None] = lambda changes: self._take(plan, changes)  # noqa: E731
            self._receiving = asyncio.create_task(self._session.receive_notifications(plan, on_notification))
            self._receiving.add_done_callback(lambda _: self._notified.set())
        while not self._readings:
            if self._receiving.done():
                self._receiving.result()
            await self._notified.wait()
            self._notified.clear()
        return self._readings.popleft()

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        return Identity()

    async def end(self) -> None:
        """End the subscription."""
        if self._receiving is not None:
            self._receiving.cancel()
            with suppress(asyncio.CancelledError, TidegateError):
                await self._receiving

    def _take(self, plan: SubscriptionPlan, changes: Notification) -> None:
        self._readings.extend(_readings(plan, changes))
        self._notified.set()


def _readings(plan: SubscriptionPlan, changes: Notification) -> Iterator[Reading]:
    """As many readings as a tag has values at most; tags without one are BAD."""
    rounds = [_rounds(positions) for positions in changes.positions]
    most = max((int(turns.max(initial=0)) for turns in rounds), default=0) + 1
    for turn in range(max(0, most - _READINGS_LIMIT), most):
        vectors = plan.layout.empty()
        codes = np.full(len(plan.layout), StatusCode.BAD_NO_COMMUNICATION, np.uint32)
        for number, (turns, positions) in enumerate(zip(rounds, changes.positions, strict=True)):
            now = turns == turn
            vectors[number][positions[now]] = changes.vectors[number][now]
            codes[plan.layout.members[number][positions[now]]] = changes.codes[number][now]
        yield Reading(vectors, changes.asked_at_ns, changes.answered_at_ns, status_runs(codes), changes.violations)


def _rounds(positions: Any) -> Any:
    """For each value, how many values of its tag come before it."""
    seen: dict[int, int] = {}
    turns = np.zeros(len(positions), np.intp)
    for number, position in enumerate(positions.tolist()):
        turns[number] = seen.get(position, 0)
        seen[position] = seen.get(position, 0) + 1
    return turns
