"""Devices that connect to us: named peers only, the newest connection counts, a port open no longer than needed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.framing import Rtu
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from tests.support.ports import free_port

MakeDevice = Callable[..., ModbusDevice]


class Caller:
    """A device that dials in and answers every register with one value."""

    def __init__(
        self,
        port: int,
        value: int,
        source: str = "127.0.0.1",
        *,
        is_rtu: bool = False,
        greeting: bytes = b"",
        chatter: bytes = b"",
    ) -> None:
        self.is_cut = asyncio.Event()
        self._chatter = chatter
        self._port, self._value, self._source, self._is_rtu, self._greeting = port, value, source, is_rtu, greeting

    async def call(self) -> asyncio.Task[None]:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0)  # Nobody listens yet.
        writer.write(self._greeting)
        return asyncio.create_task(self._answer(reader, writer))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(0 if self._is_rtu else 6)
                body = (await reader.readexactly(8))[:6] if self._is_rtu else await reader.readexactly(head[5])
                count = body[5]
                answer = bytes((body[0], body[1], 2 * count)) + struct.pack(">H", self._value) * count
                mbap = head[:4] + struct.pack(">H", len(answer))
                writer.write(self._chatter + (Rtu().frame(answer) if self._is_rtu else mbap + answer) + self._chatter)
        except (OSError, asyncio.IncompleteReadError):
            self.is_cut.set()
        finally:
            writer.transport.abort()


@pytest.fixture
def listening(make_device: MakeDevice) -> Callable[..., ModbusDevice]:
    def make(port: int, peers: tuple[str, ...] = ("127.0.0.1",), **settings: Any) -> ModbusDevice:
        listen = {"address": "127.0.0.1", "port": port, "peers": list(peers)}
        changes = {"limits": {"connect_timeout": "5 s"}, "retry_limit": 0, **settings}
        return make_device([("holding 0", "uint16")], host=None, listen=listen, **changes)

    return make


@asynccontextmanager
async def dialled(driver: ModbusDriver, caller: Caller) -> AsyncIterator[tuple[Any, asyncio.Task[None]]]:
    calling = asyncio.create_task(caller.call())
    async with driver.connect() as session:
        yield session, await calling


async def wait_until_free(port: int) -> None:
    is_free = False
    while not is_free:
        await asyncio.sleep(0)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            is_free = True


async def read_once(driver: ModbusDriver, device: ModbusDevice) -> tuple[list[int], tuple[str, ...]]:
    async with driver.connect() as session:
        reading = await session.read(driver.plan(device.scan_groups[0].tags))
        return reading.vectors[0].tolist(), reading.violations


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
async def test_a_device_that_dials_in_is_read(listening: Any, framing: str) -> None:
    """Some modems identify themselves before the first request."""
    port = free_port()
    device = listening(port, framing=framing)
    driver = ModbusKind().driver(device, SystemClock())

    reading = asyncio.create_task(read_once(driver, device))
    caller = Caller(port, 7, is_rtu=framing == "rtu", greeting=b"RTU 4711" if framing == "rtu" else b"")
    task = await caller.call()

    assert await reading == ([7], ())
    await task


CHATTER = {
    "a registration": b"RTU 4711",
    "a heartbeat": b"\xfe",
    "zeros": bytes(12),
    "an unsolicited answer": bytes((0, 0, 0, 0, 0, 5, 1, 3, 2, 0, 99)),
    "more": b"AT+" * 100,
}


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
@pytest.mark.parametrize("chatter", CHATTER.values(), ids=CHATTER)
async def test_what_a_modem_says_of_itself_is_no_answer(listening: Any, framing: str, chatter: bytes) -> None:
    """Before the first answer and after it, also in the same packet."""
    port = free_port()
    device = listening(port, framing=framing)
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    caller = Caller(port, 7, is_rtu=framing == "rtu", greeting=chatter, chatter=chatter)

    async with dialled(driver, caller) as (session, task):
        readings = [await session.read(plan) for _ in range(5)]

    assert [(reading.vectors[0].tolist(), reading.status) for reading in readings] == [([7], ())] * 5
    await task


async def test_a_modem_that_says_nothing_else_ends_its_session(listening: Any) -> None:
    port = free_port()
    device = listening(port)
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with dialled(driver, Caller(port, 7, chatter=b"+++OK\r\n" * 1000)) as (session, task):
        with pytest.raises(ProtocolViolation, match="bytes that are none"):
            await session.read(plan)

    await task


async def test_two_devices_share_a_port_told_apart_by_their_addresses(listening: Any) -> None:
    port = free_port()
    devices = [listening(port, (f"127.0.0.{number}",)) for number in (2, 3)]
    kind = ModbusKind()
    drivers = [kind.driver(device, SystemClock()) for device in devices]

    readings = [asyncio.create_task(read_once(*each)) for each in zip(drivers, devices, strict=True)]
    tasks = [await Caller(port, number, f"127.0.0.{number}").call() for number in (3, 2)]

    assert [(await reading)[0] for reading in readings] == [[2], [3]]
    await asyncio.gather(*tasks)
    assert kind.connection(devices[0]) != kind.connection(devices[1])


async def test_units_behind_one_caller_share_its_connection(listening: Any) -> None:
    port = free_port()
    devices = [listening(port, unit=unit) for unit in (1, 2)]
    kind = ModbusKind()
    drivers = [kind.driver(device, SystemClock()) for device in devices]

    readings = [asyncio.create_task(read_once(*each)) for each in zip(drivers, devices, strict=True)]
    task = await Caller(port, 5).call()

    assert [(await reading)[0] for reading in readings] == [[5], [5]]
    await task


async def test_the_newest_connection_of_a_device_counts(listening: Any) -> None:
    """A modem that lost its network has forgotten the old one."""
    port = free_port()
    device = listening(port)
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    old, new = Caller(port, 1), Caller(port, 2)

    async with dialled(driver, old) as (session, first):
        before = (await session.read(plan)).vectors[0].tolist()
        second = await new.call()
        await old.is_cut.wait()
        with pytest.raises(DeviceUnreachable, match="has connected anew"):
            await session.read(plan)
        async with driver.connect() as session:
            after = (await session.read(plan)).vectors[0].tolist()

    assert (before, after) == ([1], [2])
    await asyncio.gather(first, second)


async def test_a_stranger_is_sent_away_and_told(listening: Any) -> None:
    port = free_port()
    device = listening(port)
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    stranger = Caller(port, 9, "127.0.0.9")

    async with dialled(driver, Caller(port, 1)) as (session, task):
        await session.read(plan)
        sent_away = await stranger.call()
        await stranger.is_cut.wait()
        reading = await session.read(plan)

    assert reading.vectors[0].tolist() == [1]
    here = f"127.0.0.1:{port}"
    assert reading.violations == (f"127.0.0.9 connected to {here}, is nobody's peer there, and was sent away",)
    await asyncio.gather(task, sent_away)


async def test_only_strangers_is_a_refusal_that_names_them(listening: Any) -> None:
    """The engineer has most probably named the wrong address."""
    port = free_port()
    device = listening(port, limits={"connect_timeout": "200 ms"})
    driver = ModbusKind().driver(device, SystemClock())
    stranger = Caller(port, 9, "127.0.0.9")

    connecting = asyncio.create_task(read_once(driver, device))
    await stranger.call()

    with pytest.raises(DeviceRefused, match=r"did not connect within 0\.2 s; connections from 127\.0\.0\.9 \("):
        await connecting


async def test_without_a_caller_the_device_is_unreachable_and_the_port_is_closed_again(listening: Any) -> None:
    port = free_port()
    device = listening(port, limits={"connect_timeout": "10 ms"})
    driver = ModbusKind().driver(device, SystemClock())

    with pytest.raises(DeviceUnreachable, match="did not connect within"):
        await read_once(driver, device)

    await wait_until_free(port)


async def test_a_port_that_is_taken_is_a_refusal(listening: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        device = listening(taken.getsockname()[1])
        driver = ModbusKind().driver(device, SystemClock())

        with pytest.raises(DeviceRefused, match=r"nobody can dial in at 127\.0\.0\.1:.*in use"):
            await read_once(driver, device)


async def test_the_port_stays_open_between_two_attempts(listening: Any) -> None:
    """A device may call while we pause."""
    port = free_port()
    device = listening(port, limits={"connect_timeout": "10 ms"}, retry_limit="1 s")
    driver = ModbusKind().driver(device, SystemClock())
    with pytest.raises(DeviceUnreachable):
        await read_once(driver, device)

    task = await Caller(port, 4).call()
    values: list[int] = []
    while not values:
        with contextlib.suppress(DeviceUnreachable):
            values, _ = await read_once(driver, device)

    assert values == [4]
    await task
    await wait_until_free(port)
