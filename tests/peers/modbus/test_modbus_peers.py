"""Real implementations on the other side, and a record of every byte in between."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import Identity, StatusCode, status_codes
from edge.testing.proxy import RecordingProxy


def device_at(port: int, tags: list[tuple[str, str | None]], **limits: Any) -> ModbusDevice:
    rows = [{"name": f"t{i}", "address": address, "type": kind} for i, (address, kind) in enumerate(tags)]
    return settings_from(ModbusDevice,
        {"name": "device", "driver": "modbus", "host": "127.0.0.1", "port": port, "limits": limits,
         "scan_groups": [{"every": "1 s", "tags": rows}]}
    )  # fmt: skip


def requests_in(stream: bytes) -> list[tuple[int, bytes]]:
    """(function code, the rest) of every request in what a client sent."""
    found = []
    while stream:
        _, protocol, length, _ = struct.unpack_from(">HHHB", stream)
        assert protocol == 0
        found.append((stream[7], stream[8 : 6 + length]))
        stream = stream[6 + length :]
    return found


@pytest.fixture(params=["libmodbus", "pymodbus"])
def peer_port(request: pytest.FixtureRequest) -> int:
    port: int = request.getfixturevalue(f"{request.param}_port")
    return port


@pytest.fixture
async def peer(peer_port: int) -> AsyncIterator[RecordingProxy]:
    async with RecordingProxy("127.0.0.1", peer_port) as proxy:
        yield proxy
        for recording in proxy.recordings:
            for function, rest in requests_in(bytes(recording.sent)):
                assert function in (1, 2, 3, 4) or (function, rest[0]) == (43, 14)


NUMBERS = [*range(130), 250, 251, 499]


def tags_of_all_tables() -> list[tuple[str, str | None]]:
    tags: list[tuple[str, str | None]] = []
    for number in NUMBERS:
        tags += [(f"holding {number}", "uint16"), (f"input {number}", "uint16")]
        tags += [(f"coil {number}", None), (f"discrete {number}", None)]
    return tags


WORDS = [value for number in NUMBERS for value in (number, 1000 + number)]
BITS = [value for number in NUMBERS for value in (number % 3 == 0, number % 5 == 0)]


async def test_every_table_of_a_real_server_is_read(peer: RecordingProxy) -> None:
    device = device_at(peer.port, tags_of_all_tables())
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        readings = [await session.read(plan) for _ in range(3)]

    for reading in readings:
        bits, words = reading.vectors
        assert (reading.status, reading.violations) == ((), ())
        assert words.tolist() == WORDS
        assert bits.tolist() == BITS


async def test_requests_in_flight_are_wrong_at_no_server(peer: RecordingProxy) -> None:
    """Pymodbus answers only some of several requests in one packet: what it leaves out is BAD, and the rest right."""
    device = device_at(peer.port, tags_of_all_tables(), in_flight=4, timeout="200 ms")
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        reading = await session.read(plan)

    codes = status_codes(reading.status, len(plan.layout))
    for expected, vector, members in zip((BITS, WORDS), reading.vectors, plan.layout.members, strict=True):
        right = [
            bool(code) or value == wanted for code, value, wanted in zip(codes[members], vector, expected, strict=True)
        ]
        assert all(right)
    assert codes.tolist().count(0) > 0


async def test_an_address_that_a_real_server_does_not_have_is_bad_alone(peer: RecordingProxy) -> None:
    device = device_at(peer.port, [(f"holding {number}", "uint16") for number in range(480, 510)])
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        for _ in range(4):
            reading = await session.read(plan)

    assert reading.vectors[0].tolist()[:20] == list(range(480, 500))
    assert reading.status == ((20, 10, StatusCode.BAD_ADDRESS),)


async def test_a_real_server_is_asked_who_it_is(peer: RecordingProxy) -> None:
    device = device_at(peer.port, [("holding 7", "uint16")])
    driver = ModbusKind().driver(device, SystemClock())

    async with driver.connect() as session:
        identity = await session.identity()
        reading = await session.read(driver.plan(device.scan_groups[0].tags))

    assert identity in (Identity(), Identity(vendor="Acme", product="P", firmware="2"))
    assert reading.vectors[0].tolist() == [7]
    assert any(function == 43 for function, _ in requests_in(bytes(peer.recordings[0].sent)))


async def test_a_server_with_room_for_one_client_is_never_locked_out(libmodbus_port: int) -> None:
    """Each session ends its connection before the next one begins."""
    device = device_at(libmodbus_port, [("holding 7", "uint16")], timeout="5 s")
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    for _ in range(20):
        async with driver.connect() as session:
            reading = await session.read(plan)
            assert reading.vectors[0].tolist() == [7]
