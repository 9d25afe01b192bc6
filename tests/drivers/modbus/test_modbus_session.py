"""The driver against the simulated device, over real TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter, steady
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable
from edge.model import Identity, Reading, StatusCode, status_codes

MakeDevice = Callable[..., ModbusDevice]


def holding(count: int) -> list[Signal]:
    return [Signal(f"holding {i}", "uint16", steady(i + 1000)) for i in range(count)]


def tags(count: int) -> list[tuple[str, str]]:
    return [(f"holding {i}", "uint16") for i in range(count)]


def values(reading: Reading) -> list[Any]:
    assert len(reading.vectors) == 1
    codes = status_codes(reading.status, len(reading.vectors[0]))
    return [StatusCode(code) if code else value for value, code in zip(reading.vectors[0].tolist(), codes, strict=True)]


async def read_once(device: ModbusDevice, times: int = 1) -> list[Reading]:
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    async with driver.connect() as session:
        return [await session.read(plan) for _ in range(times)]


async def test_a_scan_reads_all_tables(make_device: MakeDevice) -> None:
    signals = [
        Signal("holding 10", "float32", steady(1.5), word_order="little"),
        Signal("input 3", "int64", steady(-5)),
        Signal("coil 9", "bool", steady(True)),
        Signal("discrete 2", "bool", steady(True)),
        Signal("holding 20.11", "bool", steady(True)),
        Signal("holding 30", "text", steady("pump"), length=8),
    ]
    async with SimulatedDevice({1: SimulatedUnit(signals)}) as simulated:
        device = make_device(
            [
                {"address": "holding 10", "type": "float32", "word_order": "little"},
                ("input 3", "int64"),
                ("coil 9", None),
                ("coil 8", None),
                ("discrete 2", None),
                ("holding 20.11", None),
                {"address": "holding 30", "type": "text", "length": 8},
            ],
            port=simulated.port,
        )

        (reading,) = await read_once(device)

    assert [vector.tolist() for vector in reading.vectors] == [[True, False, True, True], [-5], [1.5], ["pump"]]
    assert (reading.status, reading.violations) == ((), ())
    assert reading.asked_at_ns < reading.answered_at_ns


async def test_an_unchanged_scan_hands_out_the_same_vectors(make_device: MakeDevice) -> None:
    """So that a comparison of scans is one of identity."""
    async with SimulatedDevice({1: SimulatedUnit(holding(3))}) as simulated:
        first, second, third = await read_once(make_device(tags(3), port=simulated.port), times=3)

    assert first.vectors is second.vectors is third.vectors


async def test_a_changed_register_makes_new_vectors_and_leaves_the_old_alone(make_device: MakeDevice) -> None:
    unit = SimulatedUnit([Signal("holding 0", "uint16", counter())])
    async with SimulatedDevice({1: unit}) as simulated:
        readings = await read_once(make_device(tags(1), port=simulated.port), times=4)

    assert [values(reading) for reading in readings] == [[1], [2], [3], [4]]


@pytest.mark.parametrize("in_flight", [1, 3, 16])
async def test_requests_in_flight_never_exceed_the_limit(make_device: MakeDevice, in_flight: int) -> None:
    device = make_device(
        [(f"holding {20 * i}", "uint16") for i in range(20)], limits={"hole": 0, "in_flight": in_flight}
    )
    outstanding = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending: list[bytes] = []
        for served in range(1, 21):
            pending.append(await reader.readexactly(12))
            outstanding[0] = max(outstanding[0], len(pending))
            if len(pending) == in_flight or served == 20:
                # In reverse order, which Modbus TCP allows.
                for request in reversed(pending):
                    writer.write(request[:4] + b"\0\5" + request[6:8] + b"\2" + request[8:10])
                pending.clear()
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (reading,) = await read_once(replace(device, port=port))

    assert values(reading) == [20 * i for i in range(20)]
    assert outstanding[0] == in_flight


async def test_an_illegal_address_is_bad_alone_and_costs_the_others_nothing(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(holding(60), illegal=["holding 17"])}) as simulated:
        device = make_device(tags(60), port=simulated.port)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            first = await session.read(plan)
            for _ in range(3):
                last = await session.read(plan)
            asked_before = simulated.requests
            await session.read(plan)

    expected = [StatusCode.BAD_ADDRESS if i == 17 else i + 1000 for i in range(60)]
    assert values(first) == values(last) == expected
    assert [("holding 17" in text, "exception 2" in text) for text in first.violations] == [(True, True)]
    assert last.violations == ()
    assert simulated.requests - asked_before == 2  # One before it and one behind it.


async def test_a_refused_address_is_not_asked_again_in_a_new_session(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(holding(60), illegal=["holding 17"])}) as simulated:
        device = make_device(tags(60), port=simulated.port)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            for _ in range(3):
                await session.read(plan)
        asked_before = simulated.requests

        async with driver.connect() as session:
            reading = await session.read(plan)

    assert values(reading).count(StatusCode.BAD_ADDRESS) == 1
    assert simulated.requests - asked_before == 2


class JumpingClock(SystemClock):
    """The machine's clock, ahead by `ahead_ns`."""

    ahead_ns = 0

    def boot_ns(self) -> int:
        return super().boot_ns() + self.ahead_ns


async def test_a_refused_address_is_asked_again_slowly_and_returns(make_device: MakeDevice) -> None:
    unit = SimulatedUnit(holding(60), illegal=["holding 17"])
    clock = JumpingClock()
    async with SimulatedDevice({1: unit}) as simulated:
        device = make_device(tags(60), port=simulated.port)
        driver = ModbusKind().driver(device, clock)
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            for _ in range(3):
                await session.read(plan)
            clock.ahead_ns += 61 * 10**9
            still_bad = await session.read(plan)
            unit.illegal.clear()
            unasked = await session.read(plan)
            clock.ahead_ns += 61 * 10**9
            returned = await session.read(plan)
            asked_before = simulated.requests
            whole = await session.read(plan)

    good = [i + 1000 for i in range(60)]
    assert values(still_bad)[17] == values(unasked)[17] == StatusCode.BAD_ADDRESS
    assert values(returned) == values(whole) == good
    assert simulated.requests - asked_before == 1


async def test_an_illegal_hole_costs_no_tag(make_device: MakeDevice) -> None:
    unit = SimulatedUnit([*holding(5), Signal("holding 8", "uint16", steady(8))], illegal=["holding 6"])
    async with SimulatedDevice({1: unit}) as simulated:
        device = make_device([*tags(5), ("holding 8", "uint16")], port=simulated.port)
        readings = await read_once(device, times=3)

    assert [values(reading) for reading in readings] == [[1000, 1001, 1002, 1003, 1004, 8]] * 3
    assert simulated.requests < 20


async def test_coils_next_to_an_illegal_one_keep_their_values(make_device: MakeDevice) -> None:
    signals = [Signal(f"coil {i}", "bool", steady(i % 3 == 0)) for i in range(50)]
    async with SimulatedDevice({1: SimulatedUnit(signals, illegal=["coil 21", "coil 22"])}) as simulated:
        device = make_device([(f"coil {i}", None) for i in range(50)], port=simulated.port)
        readings = await read_once(device, times=3)

    expected = [StatusCode.BAD_ADDRESS if i in (21, 22) else i % 3 == 0 for i in range(50)]
    assert [values(reading) for reading in readings] == [expected] * 3


async def test_a_device_that_has_none_of_the_addresses_is_searched_within_bounds(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(illegal=["holding 0-200"])}) as simulated:
        device = make_device(tags(120), port=simulated.port)
        readings = await read_once(device, times=12)

    assert all(values(reading) == [StatusCode.BAD_ADDRESS] * 120 for reading in readings)
    assert simulated.requests < 12 * 60


async def test_a_silent_device_is_unreachable_and_its_connection_closed(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(holding(3))}) as simulated:
        device = make_device(tags(3), port=simulated.port, limits={"timeout": "50 ms"})
        simulated.stall()

        with pytest.raises(DeviceUnreachable, match=r"unit 1 did not answer within 0\.05 s"):
            await read_once(device)


async def test_a_device_that_is_off_is_unreachable(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit()}) as simulated:
        device = make_device(tags(1), port=simulated.port)

    with pytest.raises(DeviceUnreachable, match=rf"127\.0\.0\.1:{simulated.port} cannot be reached"):
        await read_once(device)


async def test_a_device_switched_off_during_a_session_is_unreachable(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(holding(1))}) as simulated:
        device = make_device(tags(1), port=simulated.port)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            await session.read(plan)
            await simulated.stop()
            with pytest.raises(DeviceUnreachable):
                await session.read(plan)
        await simulated.start()

        async with driver.connect() as session:
            reading = await session.read(plan)

    assert values(reading) == [1000]


async def test_the_identity_of_a_device_is_read(make_device: MakeDevice) -> None:
    objects = {0: "Acme", 1: "AC-12", 2: "3.1", 4: "Mixer", 5: "M"}
    async with SimulatedDevice({1: SimulatedUnit(objects=objects), 2: SimulatedUnit(objects={})}) as simulated:
        found = []
        for unit in (1, 2):
            device = make_device(tags(1), port=simulated.port, unit=unit)
            async with ModbusKind().driver(device, SystemClock()).connect() as session:
                found.append(await session.identity())

    more = (("product code", "AC-12"), ("model", "M"))
    assert found == [Identity(vendor="Acme", product="Mixer", firmware="3.1", more=more), Identity()]


async def test_a_device_that_does_not_answer_function_43_can_still_be_read(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(holding(1))}) as simulated:
        device = make_device(tags(1), port=simulated.port, limits={"timeout": "50 ms"})
        driver = ModbusKind().driver(device, SystemClock())
        async with driver.connect() as session:
            simulated.stall()
            identity = await session.identity()
            simulated.resume()
            reading = await session.read(driver.plan(device.scan_groups[0].tags))

    assert identity is None
    assert values(reading) == [1000]


async def test_a_tag_is_shown_in_every_order_from_the_same_answer_as_its_value(make_device: MakeDevice) -> None:
    """Asked for again, a value that moves would be in none of the rows."""
    unit = SimulatedUnit([Signal("holding 4", "float32", counter(37), word_order="little")])
    tags = [{"address": "holding 4", "type": "float32", "word_order": "little"}, ("holding 9", "uint16")]
    async with SimulatedDevice({1: unit}) as simulated:
        device = make_device(tags, port=simulated.port, byte_order="little")
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            await session.read(plan)
            received = simulated.received
            first, second = map(dict, session.inspect(plan, device.scan_groups[0].tags))

    assert simulated.received == received
    assert first["registers"] == "0000 4214"
    assert first["float32 CDAB, word_order little, byte_order big"] == "37.0"
    assert first["uint32 ABCD, word_order big, byte_order big"] == str(0x4214)
    assert len(first) == 1 + 4 * 4
    marked = {how for rows in (first, second) for how in rows if how.endswith(", as configured")}
    assert {how.partition(" ")[2] for how in marked} == {
        "DCBA, word_order little, byte_order little, as configured",
        "BA, byte_order little, as configured",
    }


async def test_what_was_not_answered_is_shown_in_no_order(make_device: MakeDevice) -> None:
    async with SimulatedDevice({1: SimulatedUnit(illegal=["holding 4"])}) as simulated:
        device = make_device([("holding 4", "uint16"), ("holding 7", "uint16"), ("coil 3", None)], port=simulated.port)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            await session.read(plan)
            absent, present, coil = session.inspect(plan, device.scan_groups[0].tags)

    assert absent == []
    assert present[0] == ("registers", "0000")
    assert coil == [("bool", "false")]


async def test_a_simulated_device_keeps_what_it_served(make_device: MakeDevice) -> None:
    signal = Signal("holding 0", "uint32", counter(7), is_kept=True)
    async with SimulatedDevice({1: SimulatedUnit([signal])}) as simulated:
        readings = await read_once(make_device([("holding 0", "uint32")], port=simulated.port), times=3)

    assert [value for _, value in signal.served] == [values(reading)[0] for reading in readings] == [7, 8, 9]
    for (served_at_ns, _), reading in zip(signal.served, readings, strict=True):
        assert reading.asked_at_ns <= served_at_ns <= reading.answered_at_ns


@pytest.mark.parametrize(
    ("address", "function", "advice"),
    [("input 5", 4, "try holding"), ("holding 5", 3, "try input"), ("coil 5", 1, "try discrete")],
)
async def test_a_table_that_a_device_does_not_have_is_told_with_the_one_to_try(
    address: str, function: int, advice: str, make_device: MakeDevice
) -> None:
    """Many devices have their measurements in one of two tables, and manuals do not say in which."""

    class Narrow(SimulatedDevice):
        def _answer(self, unit_number: int, pdu: bytes) -> bytes | None:
            return bytes((function | 0x80, 1)) if pdu[0] == function else super()._answer(unit_number, pdu)

    async with Narrow({1: SimulatedUnit()}) as simulated:
        device = make_device([(address, None if function == 1 else "int16")], port=simulated.port)
        [reading] = await read_once(device)

    [violation] = reading.violations
    assert (
        f"exception 1 (illegal function): it cannot read the table {address.split(maxsplit=1)[0]}; {advice}"
        in violation
    )
