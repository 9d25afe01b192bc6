"""Several units behind one host and port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable
from edge.model import Reading

MakeDevice = Callable[..., ModbusDevice]


def unit_of(value: int) -> SimulatedUnit:
    return SimulatedUnit([Signal("holding 0", "uint16", steady(value))])


async def read_all(devices: list[ModbusDevice], times: int = 3) -> list[list[Reading | Exception]]:
    """Read all devices at once with one kind: the readings of each, or the error."""
    kind = ModbusKind()
    clock = SystemClock()
    drivers = [kind.driver(device, clock) for device in devices]

    async def read(number: int) -> list[Reading | Exception]:
        found: list[Reading | Exception] = []
        plan = drivers[number].plan(devices[number].scan_groups[0].tags)
        try:
            async with drivers[number].connect() as session:
                found += [await session.read(plan) for _ in range(times)]
        except DeviceUnreachable as error:
            found.append(error)
        return found

    return await asyncio.gather(*(read(number) for number in range(len(devices))))


def value(reading: Reading | Exception) -> Any:
    assert isinstance(reading, Reading)
    assert reading.status == ()
    return reading.vectors[0].tolist()


async def wait_until_unused(simulated: SimulatedDevice) -> None:
    while simulated.connections:  # noqa: ASYNC110 - the device notices the end of a connection later.
        await asyncio.sleep(0)


@pytest.mark.parametrize("connections", [1, 2])
async def test_units_share_no_more_connections_than_allowed(make_device: MakeDevice, connections: int) -> None:
    async with SimulatedDevice({unit: unit_of(unit) for unit in range(1, 6)}) as simulated:
        devices = [
            make_device([("holding 0", "uint16")], unit=unit, port=simulated.port, limits={"connections": connections})
            for unit in range(1, 6)
        ]

        found = await read_all(devices)
        await wait_until_unused(simulated)

    assert [[value(reading) for reading in readings] for readings in found] == [[[unit]] * 3 for unit in range(1, 6)]
    assert simulated.connections_most == connections


async def test_a_silent_unit_leaves_the_connection_to_the_others(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: unit_of(1), 2: unit_of(2)}) as simulated:
        devices = [
            make_device([("holding 0", "uint16")], unit=unit, port=simulated.port, limits={"timeout": "60 ms"})
            for unit in (1, 9, 2)
        ]
        kind = ModbusKind()
        drivers = [kind.driver(device, SystemClock()) for device in devices]
        plans = [driver.plan(device.scan_groups[0].tags) for driver, device in zip(drivers, devices, strict=True)]

        async with drivers[0].connect() as one, drivers[1].connect() as silent, drivers[2].connect() as two:
            for _ in range(2):
                readings = await asyncio.gather(
                    one.read(plans[0]), silent.read(plans[1]), two.read(plans[2]), return_exceptions=True
                )

    assert value(readings[0]) == [1]
    assert isinstance(readings[1], DeviceUnreachable)
    assert value(readings[2]) == [2]
    assert simulated.connections_most == 1


async def test_a_connection_on_which_no_unit_answers_is_dropped_for_all(make_device: MakeDevice) -> None:
    """Half-open TCP looks like silence, and only a new connection ends it."""
    async with SimulatedDevice({1: unit_of(1), 2: unit_of(2)}) as simulated:
        devices = [
            make_device([("holding 0", "uint16")], unit=unit, port=simulated.port, limits={"timeout": "40 ms"})
            for unit in (1, 2)
        ]
        kind = ModbusKind()
        drivers = [kind.driver(device, SystemClock()) for device in devices]
        plans = [driver.plan(device.scan_groups[0].tags) for driver, device in zip(drivers, devices, strict=True)]
        async with drivers[0].connect() as one, drivers[1].connect() as two:
            simulated.stall()
            for session, plan in ((one, plans[0]), (two, plans[1])):
                with pytest.raises(DeviceUnreachable):
                    await session.read(plan)
            simulated.resume()
            with pytest.raises(DeviceUnreachable):
                await one.read(plans[0])

            async with drivers[0].connect() as again:
                reading = await again.read(plans[0])

    assert value(reading) == [1]


async def test_the_strictest_limits_of_a_pool_hold_for_all(make_device: MakeDevice) -> None:
    clock = SystemClock()
    async with SimulatedDevice({1: unit_of(1), 2: unit_of(2)}) as simulated:
        gentle = make_device([("holding 0", "uint16")], unit=1, port=simulated.port, limits={"gap": "20 ms"})
        hasty = make_device(
            [("holding 0", "uint16"), ("holding 100", "uint16"), ("holding 200", "uint16")],
            unit=2,
            port=simulated.port,
            limits={"in_flight": 8},
        )
        kind = ModbusKind()
        kind.driver(gentle, clock)
        driver = kind.driver(hasty, clock)
        async with driver.connect() as session:
            reading = await session.read(driver.plan(hasty.scan_groups[0].tags))

    assert reading.answered_at_ns - reading.asked_at_ns >= 2 * 20_000_000


async def test_reads_of_one_session_at_the_same_time_take_turns(make_device: MakeDevice) -> None:
    signals = [Signal(f"holding {i}", "uint16", steady(i)) for i in range(4)]
    async with SimulatedDevice({1: SimulatedUnit(signals)}) as simulated:
        device = make_device([(f"holding {i}", "uint16") for i in range(4)], port=simulated.port)
        driver = ModbusKind().driver(device, SystemClock())
        plans = [driver.plan([tag]) for tag in device.scan_groups[0].tags]
        async with driver.connect() as session:
            readings = await asyncio.gather(*(session.read(plan) for plan in plans))

    assert [value(reading) for reading in readings] == [[0], [1], [2], [3]]
    spans = [(reading.asked_at_ns, reading.answered_at_ns) for reading in readings]
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))


@pytest.mark.parametrize("limits", [{}, {"in_flight": 4}, {"gap": "1 ms"}], ids=["plain", "pipelined", "gap"])
async def test_cancelling_at_any_await_leaves_nothing_open(make_device: MakeDevice, limits: dict[str, Any]) -> None:
    async with SimulatedDevice({1: unit_of(1)}, latency_s=0.0005) as simulated:
        device = make_device([(f"holding {50 * i}", "uint16") for i in range(4)], port=simulated.port, limits=limits)
        kind = ModbusKind()
        driver = kind.driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)

        async def use() -> None:
            async with driver.connect() as session:
                await session.identity()
                await session.read(plan)
                await session.read(plan)

        steps, is_cancelled = 0, True
        while is_cancelled:
            task = asyncio.create_task(use())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            is_cancelled = isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
            await wait_until_unused(simulated)
            steps += 1 + steps // 20

        await use()
        await wait_until_unused(simulated)

    assert simulated.connections_most == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_read_leaves_a_session_that_still_reads_right(make_device: MakeDevice) -> None:
    """The answer to the cancelled request is waited for, and never taken for the next one's."""
    async with SimulatedDevice({1: unit_of(7)}) as simulated:
        device = make_device([("holding 0", "uint16"), ("holding 100", "uint16")], port=simulated.port)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            simulated.stall()
            cancelled = asyncio.create_task(session.read(plan))
            while not simulated.received:  # noqa: ASYNC110 - as above.
                await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            simulated.resume()
            reading = await session.read(plan)

    assert value(reading) == [7, 0]
    assert reading.violations == ()
