"""What is recorded where a server keeps nothing over a break: an event that says so, and a gap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from drivers.opcua import OpcuaKind
from drivers.opcua.settings import OpcuaDevice
from edge.backoff import Backoff
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.gateway.supervise import supervise
from edge.model import CatalogueGroup, CatalogueTag
from edge.scan import DevicePoller, LoopMonitor, Scheduler, SubscribedGroup
from tests.edge.scan.conftest import RecordingSink
from tests.support.hostile import liar
from tests.support.hostile.liar import Writer
from tests.support.hostile.opcua_common import TAGS, values
from tests.support.hostile.opcua_request import Question
from tests.support.hostile.opcua_server import OTHER_URI, URI, started

BAD_SERVICE_UNSUPPORTED = 0x800B0000
MS = 10**6


async def test_a_refused_transfer_is_an_event_and_a_gap(tmp_path: Path) -> None:
    """This server ends a session with its connection, and hands no subscription over."""
    sink, published = RecordingSink(), 0
    is_read_again = asyncio.Event()

    async def lie(asked: list[Question], writer: Writer) -> None:
        nonlocal published
        question = asked[-1]
        published += question.stage == "Publish"
        if question.stage == "Publish" and published == 3:
            liar.reset(writer)
        elif question.stage == "TransferSubscriptions":
            writer.write(question.fault(BAD_SERVICE_UNSUPPORTED))
        else:
            writer.write(question.answer)
        if published > 5:
            is_read_again.set()

    start = started(lie, uris=((OTHER_URI, URI),), values=values)
    async with asyncio.timeout(20), start(tmp_path) as peer, _polled(peer.device, sink):
        await is_read_again.wait()

    began_ns = next(from_ns for _, from_ns, to_ns, *_ in sink.gaps if to_ns is None)
    ends_ns = [to_ns for _, from_ns, to_ns, *_ in sink.gaps if from_ns == began_ns and to_ns is not None]
    assert ends_ns
    assert ends_ns[0] > began_ns
    told = [str(data.get("answers")) for kind, _, data in sink.events if kind == "device.protocol"]
    assert [text for text in told if "BadServiceUnsupported" in text and "lost" in text]


@asynccontextmanager
async def _polled(keys: Mapping[str, Any], sink: RecordingSink) -> AsyncIterator[None]:
    """Polls one subscribed group of a device for the duration of the block."""
    group = {"every": "30 ms", "tags": [dict(tag.settings) for tag in TAGS], "subscribe": {"keep_alive": "100 ms"}}
    device = settings_from(OpcuaDevice, {"name": "plant", "driver": "opcua", "scan_groups": [group], **keys})
    clock = SystemClock()
    driver = OpcuaKind().driver(device, clock)
    tags = device.scan_groups[0].tags
    catalogue_tags = tuple(CatalogueTag(name=tag.name, data_type=tag.data_type, address=tag.address) for tag in tags)
    catalogue = CatalogueGroup(device="plant", name="g", interval_ns=30 * MS, tags=catalogue_tags)
    plan = driver.plan_subscription(device.scan_groups[0])
    with Scheduler(clock) as scheduler:
        poller = DevicePoller(
            "plant", driver, [SubscribedGroup(0, catalogue, plan)], clock=clock, timer=scheduler, sink=sink,
            loop_monitor=LoopMonitor(clock, scheduler, time.thread_time_ns),
        )  # fmt: skip
        running = asyncio.create_task(supervise(poller, Backoff(Random(1), 10 * MS, 50 * MS), clock, scheduler))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
