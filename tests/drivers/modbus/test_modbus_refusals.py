"""What a device gives when it is asked properly is never BAD; what it refuses is BAD with its reason.

The devices are those of the field cases; here is what is asked, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable
from edge.model import Reading, StatusCode, status_codes
from tests.support.field.modbus_refusals import (
    CLOSE,
    OBJECTS,
    SHORT,
    SILENT,
    Refuse,
    RefusingDevice,
    at_most,
    one_object,
    registers,
    without,
    without_inputs,
)

MakeDevice = Callable[..., ModbusDevice]
FAST = {"timeout": "150 ms"}
SEARCH_SCANS = 8  # Enough to settle everything, also where the machine is busy.


class JumpingClock(SystemClock):
    """The machine's clock, ahead by `ahead_ns`."""

    ahead_ns = 0

    def boot_ns(self) -> int:
        return super().boot_ns() + self.ahead_ns


class Gateway:
    """A device read as the gateway does: scan after scan, in a new session after each loss."""

    def __init__(self, served: RefusingDevice, make_device: MakeDevice, tags: Sequence[Any], **limits: Any) -> None:
        self.served, self.clock = served, JumpingClock()
        self.device = make_device(tags, port=served.port, limits=FAST | limits)
        self.driver = ModbusKind().driver(self.device, self.clock)
        self.plan = self.driver.plan(self.device.scan_groups[0].tags)

    async def scan(self, times: int = 1) -> list[Reading]:
        async with self.driver.connect() as session:
            return [await session.read(self.plan) for _ in range(times)]

    async def asked_in_a_scan(self) -> list[tuple[int, int]]:
        self.served.asked.clear()
        await self.scan()
        return self.served.asked

    def codes(self, reading: Reading) -> list[int]:
        return status_codes(reading.status, len(self.plan.layout)).tolist()

    def wrong(self, reading: Reading) -> list[str]:
        """Tags whose value is not BAD and not right."""
        found = []
        for tag, (vector, at), code in zip(
            self.device.scan_groups[0].tags, self.plan.layout.slots, self.codes(reading), strict=True
        ):
            first = tag.parsed_address.first
            right = {"uint16": first, "uint32": first << 16 | first + 1, None: first % 3 == 0}[tag.type]
            if not code and reading.vectors[vector][at] != right:
                found.append(tag.name)
        return found


HOLED = registers([*range(20), *range(22, 60)])
COILS = [(f"coil {i}", None) for i in range(150)]
READABLE = {
    "exception 3 above 10 registers": (at_most(10, 3), registers(range(100))),
    "exception 2 above 64 registers": (at_most(64, 2), registers(range(125))),
    "silence above 10 registers": (at_most(10, SILENT), registers(range(100))),
    "silence above 32, with holes": (at_most(32, SILENT), registers(range(0, 124, 3))),
    "short above 10 registers": (at_most(10, SHORT), registers(range(50))),
    "exception 2 above 16 coils": (at_most(16, 2), COILS),
    "closes above 32 registers": (at_most(32, CLOSE), registers(range(125))),
    "closes at a hole": (without([20], CLOSE), HOLED),
    "one object a request": (one_object, OBJECTS),
    "exception 2 at a hole": (without([20], 2), HOLED),
    "exception 4 at a hole": (without([20], 4), HOLED),
    "silence at a hole": (without([20], SILENT), HOLED),
    "a short answer at a hole": (without([20], SHORT), HOLED),
}


@pytest.mark.parametrize("name", READABLE)
async def test_what_is_answered_when_it_is_asked_properly_is_read(make_device: MakeDevice, name: str) -> None:
    refuse, tags = READABLE[name]
    async with RefusingDevice(refuse) as served:
        gateway = Gateway(served, make_device, tags)
        readings = await gateway.scan(SEARCH_SCANS)

    assert [gateway.wrong(reading) for reading in readings] == [[]] * SEARCH_SCANS
    assert {code for reading in readings for code in gateway.codes(reading)} <= {
        0, StatusCode.BAD_WAITING_FOR_INITIAL_DATA
    }  # fmt: skip
    assert readings[-1].status == readings[-1].violations == ()


@pytest.mark.parametrize(("outcome", "code"), [
    (2, StatusCode.BAD_ADDRESS), (3, StatusCode.BAD_ADDRESS), (4, StatusCode.BAD_DEVICE_FAILURE),
    (SILENT, StatusCode.BAD_NO_COMMUNICATION), (SHORT, StatusCode.BAD_DECODING_ERROR),
    (CLOSE, StatusCode.BAD_NO_COMMUNICATION),
])  # fmt: skip
async def test_what_is_refused_alone_is_bad_alone(make_device: MakeDevice, outcome: int, code: StatusCode) -> None:
    async with RefusingDevice(without([33], outcome)) as served:
        gateway = Gateway(served, make_device, registers(range(60)))
        readings = await gateway.scan(SEARCH_SCANS)

    assert readings[-1].status == ((33, 1, code),)
    told = [text for reading in readings for text in reading.violations if text.startswith("holding 33: ")]
    assert len(told) == 1
    assert "asked again after a second" in told[0]


async def test_a_limit_that_is_found_is_kept_told_once_and_named_as_a_setting(make_device: MakeDevice) -> None:
    async with RefusingDevice(at_most(10, 3)) as served:
        gateway = Gateway(served, make_device, registers(range(40)))
        readings = await gateway.scan(3)
        asked = await gateway.asked_in_a_scan()  # In a new session.

    told = [text for reading in readings for text in reading.violations]
    assert len(told) == 1
    assert "limits.registers: 10" in told[0]
    assert asked == [(0, 10), (10, 10), (20, 10), (30, 10)]


async def test_a_limit_that_one_scan_group_found_holds_for_the_others(make_device: MakeDevice) -> None:
    async with RefusingDevice(at_most(10, 3)) as served:
        gateway = Gateway(served, make_device, registers(range(40)))
        await gateway.scan()
        gateway.plan = gateway.driver.plan(make_device(registers(range(100, 120))).scan_groups[0].tags)
        asked = await gateway.asked_in_a_scan()

    assert max(count for _, count in asked) <= 10


async def test_a_hole_is_no_limit(make_device: MakeDevice) -> None:
    async with RefusingDevice(without([20], 2)) as served:
        gateway = Gateway(served, make_device, HOLED)
        readings = await gateway.scan(3)
        asked = await gateway.asked_in_a_scan()

    assert [reading.violations for reading in readings] == [()] * 3
    assert asked == [(0, 20), (22, 38)]


async def test_a_device_that_starts_is_asked_again_after_a_second(make_device: MakeDevice) -> None:
    """Four seconds of refusals did cost a minute."""
    async with RefusingDevice(at_most(0, 2)) as served:
        gateway = Gateway(served, make_device, registers(range(100)))
        (refused,) = await gateway.scan()
        served.refuse = at_most(125, 2)
        gateway.clock.ahead_ns += 1_000_000_001
        (returned,) = await gateway.scan()
        asked = await gateway.asked_in_a_scan()

    assert refused.status == ((0, 100, StatusCode.BAD_ADDRESS),)
    assert returned.status == ()
    assert asked == [(0, 100)]


async def test_what_stays_refused_is_asked_for_more_and_more_rarely(make_device: MakeDevice) -> None:
    async with RefusingDevice(without([5], 2)) as served:
        gateway = Gateway(served, make_device, registers(range(10)), retry_refused="10 s")
        asked_at_s = []
        for second in range(60):
            if (5, 1) in await gateway.asked_in_a_scan():
                asked_at_s.append(second)
            gateway.clock.ahead_ns += 10**9

    assert asked_at_s[:5] == [0, 1, 3, 7, 15]
    assert {later - earlier for earlier, later in pairwise(asked_at_s[4:])} == {10}


async def test_a_refusal_that_passes_leaves_no_trace(make_device: MakeDevice) -> None:
    """A part whose halves are answered is asked for once more before anything is learned from it."""
    async with RefusingDevice(lambda *_: 2 * (served.requests <= 2)) as served:
        gateway = Gateway(served, make_device, registers(range(100)))
        (reading,) = await gateway.scan()
        asked = await gateway.asked_in_a_scan()

    assert (reading.status, reading.violations) == ((), ())
    assert asked == [(0, 100)]


async def test_one_lost_answer_to_what_was_answered_before_starts_no_search(make_device: MakeDevice) -> None:
    is_lossy = False

    def refuse(table: Any, first: int, count: int) -> int:
        return SILENT if is_lossy and first >= 200 else 0

    async with RefusingDevice(refuse) as served:
        gateway = Gateway(served, make_device, registers([*range(10), *range(200, 210)]))
        await gateway.scan()
        is_lossy = True
        asked_in_loss = list(await gateway.asked_in_a_scan())
        is_lossy = False
        asked = await gateway.asked_in_a_scan()

    assert asked_in_loss == [(0, 10), (200, 10)]
    assert sorted(asked) == [(0, 10), (200, 10)]


async def test_a_device_is_given_up_after_one_small_request(make_device: MakeDevice) -> None:
    async with RefusingDevice(at_most(0, SILENT)) as served:
        gateway = Gateway(served, make_device, registers(range(100)))
        with pytest.raises(DeviceUnreachable):
            await gateway.scan()

    assert [count for _, count in served.asked] == [100, 1]


async def test_a_device_that_was_read_and_falls_silent_is_given_up_at_once(make_device: MakeDevice) -> None:
    async with RefusingDevice(at_most(125, 2)) as served:
        gateway = Gateway(served, make_device, registers(range(100)))
        await gateway.scan()
        served.refuse = at_most(0, SILENT)
        with pytest.raises(DeviceUnreachable):
            await gateway.asked_in_a_scan()

    assert served.asked == [(0, 100)]


async def test_a_function_that_is_not_answered_costs_the_others_no_value(make_device: MakeDevice) -> None:
    async with RefusingDevice(without_inputs) as served:
        gateway = Gateway(served, make_device, [*registers(range(60)), *registers(range(60), "input")])
        readings = await gateway.scan(SEARCH_SCANS)

    assert all(gateway.codes(reading)[:60] == [0] * 60 for reading in readings)
    assert readings[-1].status == ((60, 60, StatusCode.BAD_NO_COMMUNICATION),)


async def test_a_plan_that_is_not_answered_costs_another_plan_no_value(make_device: MakeDevice) -> None:
    """Also where it is read first, and when it is asked for again."""
    async with RefusingDevice(without_inputs) as served:
        gateway = Gateway(served, make_device, registers(range(10), "input"))
        other = gateway.driver.plan(make_device(registers(range(10))).scan_groups[0].tags)
        readings: list[Reading] = []
        while not readings:
            with suppress(DeviceUnreachable):
                async with gateway.driver.connect() as session:
                    for _ in range(SEARCH_SCANS):
                        await session.read(gateway.plan)
                        gateway.clock.ahead_ns += 61 * 10**9
                        readings.append(await session.read(other))

    assert [reading.status for reading in readings] == [()] * SEARCH_SCANS


@pytest.mark.parametrize(("retries", "code"), [(0, StatusCode.BAD_DEVICE_FAILURE), (1, 0), (3, 0)])
async def test_a_busy_device_is_asked_again_as_often_as_configured(
    make_device: MakeDevice, retries: int, code: int
) -> None:
    busy = iter([6])
    refuse: Refuse = lambda *_: next(busy, 0)  # noqa: E731
    async with RefusingDevice(refuse) as served:
        gateway = Gateway(served, make_device, registers(range(3)), retries=retries)
        (reading,) = await gateway.scan()

    assert gateway.codes(reading) == [code] * 3


async def test_values_that_share_a_register_are_never_put_together_from_two_answers(make_device: MakeDevice) -> None:
    tags = [("holding 0", "uint32"), ("holding 1", "uint16"), ("holding 2", "uint16")]
    async with RefusingDevice(at_most(2, 2)) as served:
        gateway = Gateway(served, make_device, tags)
        (reading,) = await gateway.scan()
        asked = await gateway.asked_in_a_scan()

    assert reading.status == ()
    assert gateway.wrong(reading) == []
    assert asked == [(0, 2), (2, 1)]


async def test_a_connection_that_is_lost_within_a_search_leaves_no_value_without_an_answer(
    make_device: MakeDevice,
) -> None:
    """What was found until then is kept, and what was not asked for is BAD in the next scan too."""
    async with RefusingDevice(at_most(125, 2)) as served:
        gateway = Gateway(served, make_device, registers([*range(10), *range(200, 300)]))
        await gateway.scan()
        served.refuse = lambda table, first, count: {10: 0, 100: 2}.get(count, CLOSE)
        with pytest.raises(DeviceUnreachable):
            await gateway.scan()
        served.refuse = at_most(125, 2)
        (reading,) = await gateway.scan()

    assert gateway.wrong(reading) == []
