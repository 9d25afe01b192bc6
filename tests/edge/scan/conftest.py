"""A device in memory, polled in time that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import pytest

from edge.backoff import Backoff
from edge.driver import IdentityMode
from edge.gateway.supervise import supervise
from edge.model import CatalogueGroup, CatalogueTag, DataType, Identity, SampleBlock, TagMetadata
from edge.scan import DeviceClockMonitor, DevicePoller, LoopMonitor, PolledGroup, Questions, ScanGroup, SubscribedGroup
from edge.testing.clock import ManualClock, ManualScheduler
from edge.testing.devices import MemoryDevice

MS = 10**6
S = 10**9


class RecordingSink:
    """A sink that keeps everything in lists."""

    def __init__(self) -> None:
        self.under_way: set[str] = set()
        self.blocks: list[SampleBlock] = []
        self.gaps: list[tuple[int, int, int | None, int, str]] = []
        self.events: list[tuple[str, str, Mapping[str, str | int | None]]] = []
        self.urgent: list[bool] = []
        self.identities: list[tuple[Identity | None, int]] = []
        self.tag_metadata: list[tuple[int, tuple[TagMetadata, ...]]] = []

    def begin_scan(self, device: str) -> None:
        assert device not in self.under_way
        self.under_way.add(device)

    def end_scan(self, device: str) -> None:
        self.under_way.remove(device)

    def add_block(self, block: SampleBlock, *, urgent: bool) -> None:
        self.blocks.append(block)
        self.urgent.append(urgent)

    def record_gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        self.gaps.append((group, from_ns, to_ns, status, detail))

    def record_event(self, kind: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        self.events.append((kind, subject, data))

    def record_identity(self, device: str, identity: Identity | None, since_ns: int) -> None:
        self.identities.append((identity, since_ns))

    def record_tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        self.tag_metadata.append((group, tuple(metadata)))

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.events]


class Plant:
    """Devices in memory and what polling them yields."""

    def __init__(self) -> None:
        self.clock = ManualClock(boot_ns=10 * S)
        self.scheduler = ManualScheduler(self.clock)
        self.run_time_ns = 0
        self.loop_monitor = LoopMonitor(self.clock, self.scheduler, lambda: self.run_time_ns)
        self.sink = RecordingSink()
        self.groups = 0
        self.tasks: list[asyncio.Task[None]] = []

    def device(self) -> MemoryDevice:
        return MemoryDevice(self.clock, self.scheduler)

    def poll(
        self, driver: MemoryDevice, *intervals_ns: int, name: str = "press-1", types: tuple[DataType, ...] = (),
        subscribed: Sequence[CatalogueTag] = (), clock_monitor: DeviceClockMonitor | None = None,
        identity: IdentityMode = "auto", questions: Questions | None = None,
    ) -> DevicePoller:  # fmt: skip
        """Start polling, one scan group for each interval, and one of the subscribed tags."""
        groups: list[ScanGroup] = [
            self._group(driver, interval_ns, types or (DataType.UINT16,)) for interval_ns in intervals_ns
        ]
        if subscribed:
            catalogue = CatalogueGroup(device=name, name="subscribed", interval_ns=S, tags=tuple(subscribed))
            groups.append(SubscribedGroup(self.groups, catalogue, driver.plan(subscribed)))
            self.groups += 1
        device = DevicePoller(
            name, driver, groups, clock=self.clock, timer=self.scheduler, sink=self.sink,
            loop_monitor=self.loop_monitor, clock_monitor=clock_monitor, identity=identity, questions=questions,
        )  # fmt: skip
        backoff = Backoff(Random(1), 1 * S, 8 * S)
        task = asyncio.get_running_loop().create_task(supervise(device, backoff, self.clock, self.scheduler), name=name)
        self.tasks.append(task)
        return device

    def _group(self, driver: MemoryDevice, interval_ns: int, types: tuple[DataType, ...]) -> PolledGroup:
        tags = tuple(CatalogueTag(name=f"t{n}", data_type=kind, address=str(n)) for n, kind in enumerate(types))
        catalogue = CatalogueGroup(device="press-1", name=f"{interval_ns} ns", interval_ns=interval_ns, tags=tags)
        self.groups += 1
        return PolledGroup(self.groups - 1, catalogue, driver.plan(tags))


@pytest.fixture
def new_plant() -> Callable[[], AbstractAsyncContextManager[Plant]]:
    """Opens a plant; what is polled in it ends with its block."""

    @asynccontextmanager
    async def open_plant() -> AsyncIterator[Plant]:
        plant = Plant()
        try:
            yield plant
        finally:
            for task in plant.tasks:
                task.cancel()
            await asyncio.gather(*plant.tasks, return_exceptions=True)
        assert not plant.sink.under_way, "scans that were lost or cancelled never ended"

    return open_plant
