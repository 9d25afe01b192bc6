"""Our driver and other clients and servers: the same values, and only reads on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pycomm3 import LogixDriver

from drivers.ethernetip import EtherNetIpKind
from drivers.ethernetip.browse import discover
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import LogixServer
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import DeviceUnreachable
from edge.model import StatusCode, status_codes
from edge.testing.proxy import RecordingProxy
from tests.support.subjects.ethernetip import EtherNetIpSubject, services_of

SAME: Sequence[tuple[str, str]] = [
    ("Running", "BOOL"), ("Small", "SINT"), ("Count", "INT"), ("Vials", "DINT"), ("Total", "LINT"),
    ("Volume", "LREAL"), ("Mask", "UDINT"), ("Samples[7]", "REAL"), ("Grid[1,2,3]", "INT"), ("Recipe", "STRING"),
    ("Alarms[0]", "BOOL"), ("Alarms[33]", "BOOL"), ("Alarms[63]", "BOOL"), ("Dwell.PRE", "DINT"),
    ("Dwell.EN", "BOOL"), ("Dwell.DN", "BOOL"), ("Parts.ACC", "DINT"), ("Line1.Lot", "STRING"),
    ("Line1.Drives[2].Speed", "REAL"), ("Line1.Drives[1].Ready", "BOOL"), ("Line1.Limits[3]", "REAL"),
    ("Line1.Total", "LINT"), ("Program:MainProgram.Step", "DINT"), ("Vials.4", "BOOL"), ("Shortcut", "DINT"),
]  # fmt: skip


def device_of(port: int, tags: Sequence[tuple[str, str]], **settings: Any) -> EtherNetIpDevice:
    rows = [{"name": f"t{n}", "address": address, "type": kind} for n, (address, kind) in enumerate(tags)]
    return settings_from(EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", "port": port, **settings,
         "scan_groups": [{"every": "1 s", "tags": rows}]}
    )  # fmt: skip


async def read(device: EtherNetIpDevice, times: int = 1) -> list[list[Any]]:
    driver = EtherNetIpKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    found = []
    async with driver.connect() as session:
        for _ in range(times):
            reading = await session.read(plan)
            codes = status_codes(reading.status, len(plan.layout)).tolist()
            found.append([
                StatusCode(code) if code else reading.vectors[vector][position]
                for (vector, position), code in zip(plan.layout.slots, codes, strict=True)
            ])  # fmt: skip
    return found


async def test_our_values_are_those_of_pycomm3(logix: LogixServer) -> None:
    ours = await read(device_of(logix.port, SAME), times=10)

    theirs = await in_a_thread(logix.port, [address for address, _ in SAME])
    assert ours == [theirs] * 10


async def in_a_thread(port: int, names: Sequence[str]) -> list[Any]:
    """What pycomm3 reads; it blocks."""

    def ask() -> list[Any]:
        with LogixDriver(f"127.0.0.1:{port}/0") as client:
            return [answer.value for answer in client.read(*names)]

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("settings", [{}, {"messaging": "unconnected"}, {"limits": {"connection_bytes": 300}}], ids=str)
async def test_a_server_by_cpppo_is_read(cpppo_port: int, settings: dict[str, Any]) -> None:
    tags = [("Level", "REAL"), ("Counts[0]", "DINT"), ("Counts[3]", "DINT"), ("Counts[199]", "DINT"),
            ("Level", "DINT"), ("Nowhere", "DINT")]  # fmt: skip
    async with RecordingProxy("127.0.0.1", cpppo_port) as proxy:
        first, second = await read(device_of(proxy.port, tags, **settings), times=2)

    good = [37.5, 1, 4, -7]
    assert first[:5] == second[:5] == [*good, StatusCode.BAD_DECODING_ERROR]
    assert isinstance(first[5], StatusCode)
    asked = {name for recording in proxy.recordings for name in services_of(bytes(recording.sent))}
    assert asked <= set(EtherNetIpSubject.reading)


async def test_a_server_by_cpppo_is_found(cpppo_port: int) -> None:
    pauses: list[None] = []

    async def pause() -> None:
        pauses.append(None)

    (found, *_) = await discover("127.0.0.1", pause, cpppo_port)

    assert found.port == cpppo_port
    assert found.what
    assert len(pauses) >= 2


async def test_who_does_not_know_list_identity_costs_a_second_at_most(logix: LogixServer) -> None:
    async def pause() -> None: ...

    logix.controller.distort = lambda frame: None if frame[0] == 0x63 else frame

    with pytest.raises(DeviceUnreachable, match="does not speak EtherNet/IP"):
        await discover("127.0.0.1", pause, logix.port)
