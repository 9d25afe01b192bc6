"""Our driver against cpppo's server, without a connection.

With one, cpppo 5 writes our own connection identifier on its answers instead of the one that we gave it
(CIP Vol 2, 2-6.3.1), and such an answer is not believed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drivers.ethernetip import EtherNetIpKind
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator.wire import asked_in, is_reading
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import StatusCode
from edge.testing.proxy import RecordingProxy


@pytest.fixture
async def peer(cpppo_port: int) -> AsyncIterator[RecordingProxy]:
    async with RecordingProxy("127.0.0.1", cpppo_port) as proxy:
        yield proxy
        for recording in proxy.recordings:
            asked = list(asked_in(bytes(recording.sent)))
            assert asked
            assert [each for each in asked if not is_reading(each)] == []


def device_at(port: int, tags: list[tuple[str, str]], **more: Any) -> EtherNetIpDevice:
    rows = [{"name": f"t{at}", "address": address, "type": kind} for at, (address, kind) in enumerate(tags)]
    return settings_from(EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", "port": port, "messaging": "unconnected",
         "scan_groups": [{"every": "1 s", "tags": rows}], **more}
    )  # fmt: skip


async def test_tags_of_another_server_are_read(peer: RecordingProxy) -> None:
    """An array of 800 bytes comes in fragments: an answer without a connection holds about 500."""
    device = device_at(peer.port, [("Level", "REAL"), ("Counts[0..199]", "DINT"), ("Small[2]", "INT")])
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        readings = [await session.read(plan) for _ in range(3)]

    for reading in readings:
        small, counts, level = reading.vectors
        assert (reading.status, reading.violations) == ((), ())
        assert small.tolist() == [0]
        assert counts.tolist() == [1, 2, 3, 4, *[0] * 195, -7]
        assert level.tolist() == [37.5]


async def test_a_tag_it_does_not_have_is_bad_alone(peer: RecordingProxy) -> None:
    device = device_at(peer.port, [("Level", "REAL"), ("Nope", "REAL")])
    driver = EtherNetIpKind().driver(device, SystemClock())

    async with driver.connect() as session:
        reading = await session.read(driver.plan(device.scan_groups[0].tags))

    assert reading.status == ((1, 1, StatusCode.BAD_ADDRESS),)
    assert reading.vectors[0][0] == 37.5


async def test_it_says_who_it_is(peer: RecordingProxy) -> None:
    device = device_at(peer.port, [("Level", "REAL")])

    async with EtherNetIpKind().driver(device, SystemClock()).connect() as session:
        identity = await session.identity()

    assert identity.product == "1756-L61/B LOGIX5561"
