"""A gateway that waits for a unit longer than we wait for it: what is said about the timeout, and with which number."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable
from edge.model import Reading
from tests.support.hostile.liar import Liar, Lie, Writer
from tests.support.hostile.modbus import Question, listen

PRESENT, ABSENT = 7, 9
GATEWAY_TARGET_FAILED = 11


async def fails_late(asked: list[Question], writer: Writer) -> None:
    """Says that a unit is absent when the next request has come, so after our timeout."""
    if asked[-1].unit == PRESENT:
        if len(asked) > 1 and asked[-2].unit == ABSENT:
            writer.write(asked[-2].exception(GATEWAY_TARGET_FAILED))
        writer.write(asked[-1].answer)


async def answers_late(asked: list[Question], writer: Writer) -> None:
    if asked[-1].unit == PRESENT:
        writer.write((asked[-2].answer if len(asked) > 1 and asked[-2].unit == ABSENT else b"") + asked[-1].answer)


@asynccontextmanager
async def two_units(
    lie: Lie[Question], make_device: Callable[..., ModbusDevice]
) -> AsyncIterator[tuple[Callable[[], Awaitable[Reading]], Callable[[], Awaitable[str]]]]:
    """Reads the present unit, and says why the absent one cannot be read."""
    kind = ModbusKind()

    def driver_of(unit: int) -> tuple[ModbusDriver, ModbusPlan]:
        limits = {"timeout": "100 ms"}
        device = make_device([("holding 0", "uint32")], unit=unit, limits=limits, **gateway.device)
        driver = kind.driver(device, SystemClock())
        return driver, driver.plan(device.scan_groups[0].tags)

    async def reason() -> str:
        with pytest.raises(DeviceUnreachable) as raised:
            async with absent.connect() as session:
                await session.read(plan_of_absent)
        return str(raised.value)

    async with Liar(listen, lie).serve() as gateway:
        (present, plan), (absent, plan_of_absent) = driver_of(PRESENT), driver_of(ABSENT)
        async with present.connect() as session:
            yield lambda: session.read(plan), reason


async def test_a_timeout_shorter_than_the_gateways_own_is_called_that(make_device: Callable[..., ModbusDevice]) -> None:
    async with two_units(fails_late, make_device) as (read, reason):
        first = await reason()
        reading = await read()
        later = await reason()

    expected = (
        r"an answer for unit 9 took 0\.\d s: limits\.timeout, 0\.1 s, is shorter than the gateway's own, for which it "
        r"keeps its other units waiting; say limits\.timeout: 1 s"
    )
    assert first.partition(";")[0] == "unit 9 did not answer within 0.1 s"
    assert "limits.timeout" not in first
    assert re.fullmatch(expected, reading.violations[0])
    assert re.search("; " + expected, later)


async def test_a_late_answer_of_a_unit_says_how_long_it_took(make_device: Callable[..., ModbusDevice]) -> None:
    async with two_units(answers_late, make_device) as (read, reason):
        await reason()
        reading = await read()
        later = await reason()

    assert reading.violations == ()  # A slow device is not a faulty one.
    assert re.search(r"; an answer for unit 9 took 0\.\d s: limits\.timeout, 0\.1 s, is too short for it; say", later)
