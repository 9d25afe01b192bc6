"""Real implementations on serial lines, and on TCP with the framing of one; every byte in between is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import Identity, StatusCode
from edge.testing.proxy import RecordingProxy
from tests.support.line import RecordingLine

Settings = dict[str, Any]
Running = Callable[..., AbstractContextManager[int]]
NUMBERS = [*range(130), 250, 251, 499]


def device_of(settings: Settings, tags: list[tuple[str, str | None]]) -> ModbusDevice:
    rows = [{"name": f"t{i}", "address": address, "type": kind} for i, (address, kind) in enumerate(tags)]
    return settings_from(
        ModbusDevice,
        {"name": "device", "driver": "modbus", "scan_groups": [{"every": "1 s", "tags": rows}], **settings},
    )


def bodies_in(stream: bytes, framing: str) -> list[bytes]:
    """Unit, function and data of every request in what the gateway said."""
    if framing == "ascii":
        assert stream.endswith(b"\r\n")
        return [bytes.fromhex(line[1:].decode())[:-1] for line in stream.split(b"\r\n")[:-1]]
    bodies = []
    while stream:
        size = 7 if stream[1] == 43 else 8
        bodies.append(stream[: size - 2])
        stream = stream[size:]
    return bodies


@asynccontextmanager
async def serial_peer(running: Running, framing: str, words: Sequence[str], folder: Path) -> AsyncIterator[Settings]:
    async with RecordingLine(folder) as line:
        with running(*(str(line.device) if word == "PORT" else word for word in words)):
            yield {"serial": {"port": str(line.gateway), "baud": 115200}, "framing": framing}
        assert_only_reads(bytes(line.recording.sent), framing)


@asynccontextmanager
async def tcp_peer(running: Running, framing: str, words: Sequence[str], folder: Path) -> AsyncIterator[Settings]:
    with running(*words) as port:
        async with RecordingProxy("127.0.0.1", port) as proxy:
            yield {"host": "127.0.0.1", "port": proxy.port, "framing": framing}
            for recording in proxy.recordings:
                assert_only_reads(bytes(recording.sent), framing)


def assert_only_reads(sent: bytes, framing: str) -> None:
    bodies = bodies_in(sent, framing)
    assert bodies
    for body in bodies:
        assert body[1] in (1, 2, 3, 4) or (body[1], body[2]) == (43, 14)


PEERS = {
    "libmodbus, rtu, serial": (serial_peer, "libmodbus", "rtu", ("PORT", "115200")),
    "pymodbus, rtu, serial": (serial_peer, "pymodbus", "rtu", ("rtu", "PORT")),
    "pymodbus, ascii, serial": (serial_peer, "pymodbus", "ascii", ("ascii", "PORT")),
    "pymodbus, rtu, tcp": (tcp_peer, "pymodbus", "rtu", ("rtu",)),
    "pymodbus, ascii, tcp": (tcp_peer, "pymodbus", "ascii", ("ascii",)),
}


@pytest.fixture(params=PEERS.values(), ids=PEERS)
async def peer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settings]:
    make, implementation, framing, words = request.param
    async with make(request.getfixturevalue(f"running_{implementation}"), framing, words, tmp_path) as settings:
        yield settings


async def test_every_table_is_read_on_every_line(peer: Settings) -> None:
    """And who it is, and that an address it does not have is bad alone."""
    tags: list[tuple[str, str | None]] = []
    for number in NUMBERS:
        tags += [(f"holding {number}", "uint16"), (f"input {number}", "uint16")]
        tags += [(f"coil {number}", None), (f"discrete {number}", None)]
    device = device_of(peer, [*tags, ("holding 502", "uint16")])
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        identity = await session.identity()
        readings = [await session.read(plan) for _ in range(3)]

    assert identity in (None, Identity(), Identity(vendor="Acme", product="P", firmware="2"))
    for reading in readings:
        bits, words = reading.vectors
        assert words.tolist()[:-1] == [value for number in NUMBERS for value in (number, 1000 + number)]
        assert bits.tolist() == [value for number in NUMBERS for value in (number % 3 == 0, number % 5 == 0)]
        assert reading.status == ((len(tags), 1, StatusCode.BAD_ADDRESS),)


async def test_a_silent_unit_leaves_the_line_to_the_other(running_libmodbus: Running, tmp_path: Path) -> None:
    """For half a second, libmodbus takes what follows a request to another unit for that unit's answer."""
    async with serial_peer(running_libmodbus, "rtu", ("PORT", "115200"), tmp_path) as settings:
        limits = {"timeout": "600 ms"}
        here = device_of(settings, [("holding 7", "uint16")])
        gone = device_of(settings | {"unit": 9, "limits": limits}, [("holding 7", "uint16")])
        kind = ModbusKind()
        drivers = [kind.driver(device, SystemClock()) for device in (here, gone)]
        plans = [driver.plan(here.scan_groups[0].tags) for driver in drivers]
        async with drivers[0].connect() as session, drivers[1].connect() as silent:
            nothing = asyncio.create_task(silent.read(plans[1]))
            readings = [await session.read(plans[0]) for _ in range(20)]
            await asyncio.gather(nothing, return_exceptions=True)

    assert [reading.vectors[0].tolist() for reading in readings] == [[7]] * 20
    assert "unit 9 did not answer" in str(nothing.exception())
