"""Finding units: gently, one connection, one request at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.driver import discover
from drivers.modbus.simulator import SimulatedDevice, SimulatedUnit
from edge.driver import Discoverable, Discovered, Target
from edge.errors import DeviceUnreachable

ACME = {0: "Acme", 1: "AC-12", 2: "3.1", 4: "Mixer"}
PUMP = {0: "Umbrella", 1: "U-1", 2: "7"}


async def found_at(device: SimulatedDevice) -> tuple[list[Discovered], int]:
    """What was found, and how often the pause was awaited."""
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1

    return list(await discover("127.0.0.1", pause, device.port, timeout_s=0.3)), pauses


def test_modbus_devices_can_be_looked_for() -> None:
    assert isinstance(ModbusKind(), Discoverable)


async def test_each_port_that_is_named_is_asked_and_a_url_is_none_of_ours(unused_tcp_port: int) -> None:
    units = {1: SimulatedUnit(objects=ACME)}
    async with SimulatedDevice(units) as one, SimulatedDevice(units) as other:
        ports = (one.port, unused_tcp_port, other.port)

        found = await ModbusKind().discover(Target("127.0.0.1", ports), lambda: asyncio.sleep(0))
        url = Target("127.0.0.1", ports, f"opc.tcp://127.0.0.1:{one.port}")

        assert [(each.port, each.device["port"]) for each in found] == [(port, port) for port in ports[::2]]
        assert await ModbusKind().discover(url, lambda: asyncio.sleep(0)) == []


async def test_units_behind_a_gateway_are_found_with_what_they_say() -> None:
    units = {1: SimulatedUnit(objects=ACME), 2: SimulatedUnit(objects=PUMP), 5: SimulatedUnit(objects={})}
    async with SimulatedDevice(units) as device:
        found, pauses = await found_at(device)

    assert [(each.device["unit"], each.what) for each in found] == [
        (1, "Acme Mixer 3.1, unit 1"),
        (2, "Umbrella U-1 7, unit 2"),
        (5, "a Modbus device that does not say what it is, unit 5"),
    ]
    assert ("product code", "AC-12") in found[0].details
    assert found[0].device == {"host": "127.0.0.1", "port": device.port, "unit": 1}
    assert (pauses, device.connections_most) == (13, 1)
    assert device.refused_functions == [43, 43]  # A refusal is an answer, after which the unit is not asked again.


async def test_a_device_that_answers_to_every_unit_is_one() -> None:
    async with SimulatedDevice({unit: SimulatedUnit(objects=ACME) for unit in range(256)}) as device:
        found, _ = await found_at(device)

    assert [each.device["unit"] for each in found] == [1]
    assert device.received <= 9


async def test_a_device_silent_to_the_usual_units_is_asked_no_more() -> None:
    async with SimulatedDevice({4: SimulatedUnit(objects=ACME)}) as device:
        with pytest.raises(DeviceUnreachable, match="takes the connection, but none of the units 0, 1 and 255 answers"):
            await found_at(device)

    assert device.received == 3


async def test_of_a_unit_that_is_known_no_other_is_asked() -> None:
    async with SimulatedDevice({4: SimulatedUnit(objects=ACME)}) as device:
        at = Target("127.0.0.1", (device.port,))
        (found,) = await ModbusKind().discover(replace(at, known=(("unit", 4),)), lambda: asyncio.sleep(0))
        received = device.received
        with pytest.raises(DeviceUnreachable, match="takes the connection, but unit 7 does not answer"):
            await ModbusKind().discover(replace(at, known=(("unit", 7),)), lambda: asyncio.sleep(0))

    assert (found.device["unit"], device.received) == (4, received + 1)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"], ids=["closes", "another protocol"])
async def test_another_protocol_is_no_device(greeting: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port: Any = server.sockets[0].getsockname()[1]
        with pytest.raises(DeviceUnreachable, match="what answers does not speak Modbus TCP"):
            await discover("127.0.0.1", lambda: asyncio.sleep(0), port, timeout_s=0.3)

    with pytest.raises(DeviceUnreachable, match="Connection refused; is the port right"):
        await discover("127.0.0.1", lambda: asyncio.sleep(0), port)
