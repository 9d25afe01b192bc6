"""Hostile and healthy devices, polled as by a gateway: each in a supervised task, all with one scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Self

from edge.backoff import Backoff
from edge.clock import SystemClock
from edge.config.catalogue import catalogue_groups
from edge.driver import DriverKind
from edge.gateway.supervise import supervise
from edge.model import Identity, SampleBlock, TagMetadata
from edge.scan import DevicePoller, LoopMonitor, PolledGroup, Scheduler
from tests.support.hostile.behaviour import Behaviour, Outcome, Peer, Protocol
from tests.support.hostile.trial import Judge, JudgedDriver, device_settings

RETRY_NS, RETRY_LIMIT_NS = 100 * 10**6, 1000 * 10**6


@dataclass(frozen=True, slots=True)
class Watched:
    """One device of the plant."""

    protocol: Protocol
    behaviour: Behaviour
    peer: Peer
    device: DevicePoller
    judge: Judge
    asked_at_ns: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For a report."""
        return f"{self.protocol.label}, {self.behaviour.id}"

    @property
    def is_good(self) -> bool:
        """Whether the last scan was good."""
        return self.judge.outcomes[-1:] == [Outcome.GOOD]


class Plant:
    """The devices of one test, polled in the event loop while the block is open."""

    def __init__(self, folder: Path) -> None:
        self.watched: list[Watched] = []
        self._folder = folder
        self._clock = SystemClock()
        self._scheduler = Scheduler(self._clock)
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._kinds: dict[str, DriverKind[Any]] = {}

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self._scheduler)
        self._loop_monitor = LoopMonitor(self._clock, self._scheduler, time.thread_time_ns)
        self._stack.push_async_callback(self._stop)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def start(self, protocol: Protocol, behaviour: Behaviour, every_ns: int) -> Watched:
        """Start a peer, and poll it."""
        folder = self._folder / str(len(self.watched))
        await asyncio.to_thread(folder.mkdir)
        peer = await self._stack.enter_async_context(behaviour.start(folder))
        return self.watch(protocol, behaviour, peer, every_ns)

    def watch(self, protocol: Protocol, behaviour: Behaviour, peer: Peer, every_ns: int) -> Watched:
        """Poll a peer from now on."""
        kind = self._kinds.get(protocol.name) or self._kinds.setdefault(protocol.name, protocol.kind())
        number = len(self.watched)
        named = replace(behaviour, id=f"{behaviour.id}-{number}")
        settings = device_settings(protocol, named, peer, kind)
        judge = Judge(behaviour.tags or protocol.tags)
        driver = JudgedDriver(kind.driver(settings, self._clock), judge)
        (catalogued,) = catalogue_groups(settings)
        group = PolledGroup(
            number, replace(catalogued, interval_ns=every_ns), driver.plan(settings.scan_groups[0].tags)
        )
        asked_at_ns: list[int] = []
        device = DevicePoller(
            settings.name, driver, [group], clock=self._clock, timer=self._scheduler, sink=_Times(asked_at_ns),
            loop_monitor=self._loop_monitor,
        )  # fmt: skip
        watched = Watched(protocol, behaviour, peer, device, judge, asked_at_ns)
        self.watched.append(watched)
        backoff = Backoff(Random(number), RETRY_NS, RETRY_LIMIT_NS)
        self._tasks.append(asyncio.create_task(supervise(device, backoff, self._clock, self._scheduler)))
        return watched

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def raise_if_broken(self) -> None:
        """Raise the error that ended a task: it would have ended a gateway."""
        for task in self._tasks:
            if task.done():
                task.result()


class _Times:
    """See `edge.scan.Sink`: keeps the time of each scan."""

    def __init__(self, asked_at_ns: list[int]) -> None:
        self._asked_at_ns = asked_at_ns

    def begin_scan(self, device: str) -> None:
        pass

    def end_scan(self, device: str) -> None:
        pass

    def add_block(self, block: SampleBlock, *, urgent: bool) -> None:
        self._asked_at_ns.append(block.asked_at_ns)

    def record_gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        pass

    def record_event(self, kind: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        pass

    def record_identity(self, device: str, identity: Identity | None, since_ns: int) -> None:
        pass

    def record_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        pass
