"""Devices that close connections by themselves, want to be left alone after a connect, or do not bear function 43."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.codec import READ_DEVICE_IDENTIFICATION
from drivers.modbus.framing import Rtu
from drivers.modbus.session import ModbusSession
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable
from edge.model import Identity, Reading
from tests.support.field.modbus_sessions import BLOCKS, VALUES, Asked, TouchyDevice

MakeDevice = Callable[..., ModbusDevice]
Read = Callable[[], Awaitable[Reading]]
IGNORED_FOR_S = 0.2


@asynccontextmanager
async def reading(make_device: MakeDevice, port: int, **settings: Any) -> AsyncIterator[tuple[ModbusSession, Read]]:
    """A session with a device that has the blocks."""
    device = make_device([(f"holding {first}", "uint16") for first in BLOCKS], port=port, **settings)
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    async with driver.connect() as session:
        yield session, lambda: session.read(plan)


def assert_good(found: Reading) -> None:
    assert found.status == ()
    assert found.vectors[0].tolist() == list(VALUES.values())


async def wait_until_closed(device: TouchyDevice) -> None:
    async with asyncio.timeout(10):
        while device.connections:  # noqa: ASYNC110 - its task ends by itself.
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)  # Until the end has arrived here.


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_a_connection_that_was_closed_between_two_scans_is_opened_again_by_the_next(
    make_device: MakeDevice, is_reset: bool
) -> None:
    async with (
        TouchyDevice(idle_s=0.05, is_reset=is_reset) as device,
        reading(make_device, device.port) as (_, read),
    ):
        for connects in range(1, 4):
            assert_good(await read())
            assert device.accepted == connects
            await wait_until_closed(device)


@pytest.mark.parametrize(("in_flight", "is_reset"), [(1, False), (1, True), (4, False)])  # A reset may destroy answers.
@pytest.mark.parametrize("answers", [1, 3])
async def test_what_a_device_left_unanswered_when_it_closed_is_asked_on_a_new_connection_once(
    make_device: MakeDevice, answers: int, in_flight: int, is_reset: bool
) -> None:
    async with (
        TouchyDevice(answers=answers, is_reset=is_reset) as device,
        reading(make_device, device.port, limits={"in_flight": in_flight}) as (_, read),
    ):
        for _ in range(3):
            found = await read()
            assert_good(found)
            assert found.asked_at_ns < found.answered_at_ns

    assert device.requests == 3 * len(BLOCKS)
    assert device.accepted == -(-device.requests // answers)


async def test_a_line_over_tcp_is_opened_again_in_the_same_scan(make_device: MakeDevice) -> None:
    accepted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        for _ in range(3):
            request = await reader.readexactly(8)
            value = (int.from_bytes(request[2:4]) + 7).to_bytes(2)
            count = int.from_bytes(request[4:6])
            writer.write(Rtu().frame(request[:2] + bytes((2 * count,)) + value + bytes(2 * count - 2)))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with reading(make_device, port, framing="rtu") as (_, read):
            for _ in range(3):
                assert_good(await read())

    assert accepted >= 4


async def test_a_device_that_closes_without_an_answer_is_lost(make_device: MakeDevice) -> None:
    """What it was asked for may have been too much: it is asked once for little. More would keep it busy."""
    async with TouchyDevice(answers=0) as device, reading(make_device, device.port) as (_, read):
        with pytest.raises(DeviceUnreachable, match="the connection"):
            await read()

    assert device.accepted == 2


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_a_request_at_which_a_device_closes_is_asked_twice_and_no_more(
    make_device: MakeDevice, number: int, is_reset: bool
) -> None:
    async with TouchyDevice(is_reset=is_reset) as device, reading(make_device, device.port) as (_, read):
        assert_good(await read())
        device.closes_at = BLOCKS[number]
        with pytest.raises(DeviceUnreachable, match="the connection"):
            await read()

    assert (device.accepted, len(device.functions)) == (2, len(BLOCKS) + number + 2)


async def test_a_session_says_when_it_connected_again(make_device: MakeDevice) -> None:
    """The device may be another: it is asked what it is again."""
    async with TouchyDevice(idle_s=0.05) as device, reading(make_device, device.port) as (session, read):
        assert_good(await read())
        waiting = asyncio.ensure_future(session.reconnected(0))
        await wait_until_closed(device)
        before_ns = SystemClock().boot_ns()
        found = await read()

        assert before_ns <= await waiting <= found.asked_at_ns


@pytest.mark.parametrize(
    ("asked", "connects", "reported"),
    [
        (Asked.IGNORES, 1, ""),
        (Asked.BARE, 1, "belong to no answer"),
        (Asked.DEAF, 2, ""),
        (Asked.CLOSES, 3, "asked what it is"),
    ],
)
async def test_a_question_that_does_harm_costs_no_value(
    make_device: MakeDevice, asked: Asked, connects: int, reported: str
) -> None:
    async with (
        TouchyDevice(asked=asked) as device,
        reading(make_device, device.port, limits={"timeout": "100 ms"}) as (session, read),
    ):
        assert_good(await read())
        identity = await session.identity()
        first = await read()
        assert_good(first)
        second = await read()
        assert_good(second)

    assert identity is None
    assert device.accepted == connects
    assert reported in "".join(first.violations)
    assert bool(first.violations) is bool(reported)
    assert second.violations == ()


async def test_a_device_that_says_what_it_is_keeps_its_connection(make_device: MakeDevice) -> None:
    async with TouchyDevice() as device, reading(make_device, device.port) as (session, read):
        assert_good(await read())
        assert (await session.identity() or Identity()).vendor == "Tidegate"
        assert_good(await read())

    assert device.accepted == 1


async def test_a_silence_that_no_question_explains_is_a_loss_at_once(make_device: MakeDevice) -> None:
    async with (
        TouchyDevice() as device,
        reading(make_device, device.port, limits={"timeout": "60 ms"}) as (session, read),
    ):
        await session.identity()
        assert_good(await read())
        device.stall()
        asked = len(device.functions)
        device.units.clear()
        device.resume()
        with pytest.raises(DeviceUnreachable, match="did not answer"):
            await read()

    assert (device.accepted, len(device.functions)) == (1, asked + 1)


async def test_a_new_connection_is_left_alone_for_all_units_that_share_it(make_device: MakeDevice) -> None:
    async with TouchyDevice() as device:
        kind = ModbusKind()
        devices = [make_device([("holding 0", "uint16")], port=device.port, limits={"connect_delay": f"{delay} ms"})
                   for delay in (0, 1000 * IGNORED_FOR_S)]  # fmt: skip
        drivers = [kind.driver(each, SystemClock()) for each in devices]
        began_s = time.monotonic()

        async def read(number: int) -> float:
            async with drivers[number].connect() as session:
                asked_s = time.monotonic()
                await session.read(drivers[number].plan(devices[number].scan_groups[0].tags))
            return asked_s

        asked_s = await asyncio.gather(read(0), read(1))

    assert device.accepted == 1
    # Timers of a loop are as coarse as a millisecond.
    assert all(each - began_s >= IGNORED_FOR_S - 0.01 for each in asked_s)


async def test_stopping_in_the_pause_after_a_connect_closes_it(make_device: MakeDevice) -> None:
    async with TouchyDevice() as device:
        settings = make_device([("holding 0", "uint16")], port=device.port, limits={"connect_delay": "20 s"})
        entered = ModbusKind().driver(settings, SystemClock()).connect().__aenter__()
        connecting = asyncio.ensure_future(entered)
        while not device.connections:  # noqa: ASYNC110 - it is accepted later.
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await wait_until_closed(device)

    assert device.functions == []


@pytest.mark.parametrize("has_answered", [False, True])
async def test_a_device_that_never_answered_is_suggested_to_be_left_alone(
    make_device: MakeDevice, has_answered: bool
) -> None:
    async with (
        TouchyDevice() as device,
        reading(make_device, device.port, limits={"timeout": "60 ms"}) as (_, read),
    ):
        if has_answered:
            await read()
        device.units.clear()
        with pytest.raises(DeviceUnreachable) as lost:
            await read()

    assert ("limits.connect_delay" in str(lost.value)) is not has_answered
    assert READ_DEVICE_IDENTIFICATION not in device.functions


async def test_units_that_share_a_closed_connection_share_the_new_one(make_device: MakeDevice) -> None:
    async with TouchyDevice(idle_s=0.05) as device:
        device.units[2] = device.units[1]
        kind = ModbusKind()
        devices = [make_device([("holding 0", "uint16")], port=device.port, unit=unit) for unit in (1, 2)]
        drivers = [kind.driver(each, SystemClock()) for each in devices]
        plans = [driver.plan(each.scan_groups[0].tags) for driver, each in zip(drivers, devices, strict=True)]
        async with drivers[0].connect() as one, drivers[1].connect() as two:
            for connects in range(1, 4):
                found = await asyncio.gather(one.read(plans[0]), two.read(plans[1]))
                assert [each.vectors[0].tolist() for each in found] == [[7], [7]]
                assert device.accepted == connects
                await wait_until_closed(device)
