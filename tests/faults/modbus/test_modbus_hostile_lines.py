"""On a line without transaction ids a value is right or BAD, and a faulty unit costs the others little."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import Reading, StatusCode, status_codes

Send = Callable[[bytes], None]
TIMEOUT_S = 0.02  # Of units that are not expected to answer in time; the others have a long one.
BLOCKS = (0, 300, 600)  # Three requests a scan of ten registers each, so that their answers have the same shape.


def device_on(
    line: Any, unit: int = 7, first: tuple[int, ...] = BLOCKS, count: int = 10, timeout_s: float = 2.0, **settings: Any
) -> Any:
    numbers = [block + i for block in first for i in range(count)]
    tags = [{"name": f"t{i}", "address": f"holding {i}", "type": "uint16"} for i in numbers]
    way = {"serial": {"port": str(line.port), "baud": 115200} | settings.pop("serial", {})}
    return settings_from(ModbusDevice,
        {"name": f"unit-{unit}", "driver": "modbus", "unit": unit, "limits": {"timeout": f"{1e3 * timeout_s:g} ms"},
         "scan_groups": [{"every": "1 s", "tags": tags}], **(settings if "host" in settings else way | settings)}
    )  # fmt: skip


def judge(reading: Reading, device: ModbusDevice) -> str:
    """Every value that is not BAD must be right: "good", "bad" or "partly"."""
    expected = [tag.parsed_address.first for tag in device.scan_groups[0].tags]
    codes = status_codes(reading.status, len(expected))
    for wanted, value, code in zip(expected, reading.vectors[0].tolist(), codes.tolist(), strict=True):
        assert code or value == wanted
    return "bad" if codes.all() else "partly" if codes.any() else "good"


async def outcomes(device: ModbusDevice, times: int, kind: ModbusKind | None = None) -> tuple[list[str], list[str]]:
    """The outcomes of some scans, with a new session after each failure, and the violations."""
    driver = (kind or ModbusKind()).driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    found: list[str] = []
    violations: list[str] = []
    while len(found) < times:
        try:
            async with driver.connect() as session:
                while len(found) < times:
                    reading = await session.read(plan)
                    found.append(judge(reading, device))
                    violations += reading.violations
        except DeviceUnreachable:
            found.append("unreachable")
        except ProtocolViolation as violation:
            found.append("violation" if len(violation.data) <= 260 else "too much kept")
    return found, violations


async def good(request: Any, send: Send) -> None:
    send(request.answer())


def always(make: Callable[[Any], bytes]) -> Any:
    async def behave(request: Any, send: Send) -> None:
        send(make(request))

    return behave


class Late:
    """Answers in order, but often only after more requests; at once when enough requests were sent."""

    def __init__(self, seed: int, requests: int) -> None:
        self._choose = random.Random(seed)
        self._requests = requests
        self.line: Any = None

    @property
    def is_over(self) -> bool:
        return len(self.line.asked) >= self._requests

    async def __call__(self, request: Any, send: Send) -> None:
        more = self._choose.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 8))
        if more and not self.is_over:
            await self.line.until_asked(min(len(self.line.asked) + more, self._requests))
        send(request.answer())


async def scan_until_good(device: ModbusDevice, late: Late) -> list[str]:
    """The outcomes of scans until the unit answers in time and three in a row are good."""
    kind = ModbusKind()
    found: list[str] = []
    while not late.is_over or found[-3:] != ["good"] * 3:
        found += (await outcomes(device, 3, kind))[0]
    return found


@pytest.mark.parametrize("count", [1, 10])
async def test_no_late_answer_is_taken_for_the_next_one(hostile_line: Any, count: int) -> None:
    """Of one register and of ten, late by any number of requests."""
    late = Late(count, 40)
    async with hostile_line({7: late}) as late.line:
        found = await scan_until_good(device_on(late.line, count=count, timeout_s=TIMEOUT_S), late)

    assert "good" in found
    assert set(found) != {"good"}


@pytest.mark.parametrize("count", [1, 10])
async def test_no_late_answer_is_taken_for_another_over_tcp_or_on_a_new_connection(
    hostile_line: Any, count: int
) -> None:
    """A converter sends the bytes of its line to the newest connection."""
    late = Late(count, 40)
    late.line = line = hostile_line({7: late})
    newest: list[asyncio.StreamWriter] = []

    def send_to_newest(data: bytes) -> None:
        newest[-1].write(data)

    async def convert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        newest.append(writer)
        while data := await reader.read(4096):
            line.feed(data, send_to_newest)
        writer.close()

    server = await asyncio.start_server(convert, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with line, server:
        device = device_on(line, host="127.0.0.1", port=port, framing="rtu", count=count, timeout_s=TIMEOUT_S)
        found = await scan_until_good(device, late)

    assert len(newest) > 1
    assert "good" in found


async def test_no_request_reads_what_any_device_of_the_unit_forbids(hostile_line: Any) -> None:
    """Probes neither; and a device may be added while others are read."""
    silences = iter([False] * 4 + [True] * 6)

    async def silent_for_a_while(request: Any, send: Send) -> None:
        if not next(silences, False):
            send(request.answer())

    async with hostile_line({7: silent_for_a_while}) as line:
        kind = ModbusKind()
        await outcomes(device_on(line, first=(50,), count=1), 3, kind)
        cautious = device_on(line, first=(0,), count=1, limits={"forbidden": ["holding 1"], "timeout": "20 ms"})
        await outcomes(cautious, 8, kind)

    read = {address for request in line.asked for address in range(request.first, request.first + request.count)}
    assert read == {0, 50, 51}


def flipped(frame: bytes) -> bytes:
    return frame[:-1] + bytes((frame[-1] ^ 1,))


ALWAYS = {
    "noise before the answer": (lambda q: b"\0\xff\0" + q.answer(), "good"),
    "a wrong checksum before the answer": (lambda q: flipped(q.answer()) + q.answer(), "good"),
    "a wrong checksum": (lambda q: flipped(q.answer()), "bad"),
    "cut short": (lambda q: q.answer()[:12], "bad|partly|good"),
    "another unit": (lambda q: q.answer(unit=8), "bad"),
    "another function": (lambda q: q.answer(function=4), "bad"),
    "a writing function": (lambda q: q.answer(function=16), "bad"),
    "too few registers": (lambda q: Q(q, q.count - 1).answer(), "bad"),
    "too many registers": (lambda q: Q(q, q.count + 1).answer(), "bad"),
    "a wrong byte count": (lambda q: q.answer(count=250), "bad"),
    "device failure": (lambda q: q.refusal(4), "bad"),
}


def Q(request: Any, count: int) -> Any:  # noqa: N802 - short, as the table has it often.
    return type(request)(request.unit, request.function, request.first, count, request.frame)


@pytest.mark.parametrize(("make", "expected"), ALWAYS.values(), ids=ALWAYS)
async def test_a_unit_with_one_fault_loses_its_values_and_the_others_lose_none(
    hostile_line: Any, make: Callable[[Any], bytes], expected: str
) -> None:
    timeout_s = TIMEOUT_S if "bad" in expected else 2.0
    async with hostile_line({7: always(make), 1: good}) as line:
        kind = ModbusKind()
        (found, violations), (neighbour, _) = await asyncio.gather(
            outcomes(device_on(line, timeout_s=timeout_s), 3, kind), outcomes(device_on(line, unit=1), 12, kind)
        )

    assert set(found) <= {*expected.split("|"), "unreachable"}  # Noise sometimes comes too late to be reported.
    assert bool(violations) == bool({"bad", "partly"} & set(found))
    assert neighbour == ["good"] * 12


async def test_the_repeated_answer_of_a_unit_is_never_taken_for_the_next_one(hostile_line: Any) -> None:
    async with hostile_line({7: always(lambda q: q.answer() * 2)}) as line:
        found, violations = await outcomes(device_on(line, timeout_s=5 * TIMEOUT_S), 5)

    assert "good" in found
    assert "said more than it was asked" in violations[0]


async def test_the_echo_of_an_adapter_is_skipped_where_it_is_configured(hostile_line: Any) -> None:
    async with hostile_line({7: always(lambda q: q.frame + q.answer())}) as line:
        found, violations = await outcomes(device_on(line, serial={"echo": True}), 3)

    assert (found, violations) == (["good"] * 3, [])


async def test_an_echo_that_is_not_configured_is_explained(hostile_line: Any) -> None:
    """A silent unit behind such an adapter looks like one with wrong answers."""
    async with hostile_line({7: always(lambda q: q.frame)}) as line:
        found, violations = await outcomes(device_on(line, timeout_s=TIMEOUT_S), 2)

    assert found == ["bad"] * 2
    assert "echo: true" in violations[0]


async def test_a_silent_unit_behind_an_echo_is_silent(hostile_line: Any) -> None:
    async with hostile_line({7: always(lambda q: q.frame)}) as line:
        found, _ = await outcomes(device_on(line, serial={"echo": True}, timeout_s=TIMEOUT_S), 1)

    assert found == ["unreachable"]


async def test_a_unit_that_recovers_is_read_at_once(hostile_line: Any) -> None:
    answers = iter([b"\xff" * 40, b"", b""])

    async def recover(request: Any, send: Send) -> None:
        send(next(answers, request.answer()))

    async with hostile_line({7: recover}) as line:
        found, _ = await outcomes(device_on(line, timeout_s=5 * TIMEOUT_S), 8)

    assert found[-5:] == ["good"] * 5


async def scan_without_pause(
    driver: ModbusDriver, device: ModbusDevice, seen: list[str], enough: asyncio.Event
) -> None:
    """Scan, and connect again, without a pause: more often than a supervisor."""
    plan = driver.plan(device.scan_groups[0].tags)
    while not enough.is_set():
        try:
            async with driver.connect() as session:
                while not enough.is_set():
                    seen.append(judge(await session.read(plan), device))
                    if seen.count("good") >= 100:
                        enough.set()
        except DeviceUnreachable:
            seen.append("unreachable")
            await asyncio.sleep(0.001)


async def test_units_that_are_silent_leave_the_line_to_the_others(hostile_line: Any) -> None:
    """Counted in requests: three silent units together get a small part of them."""
    async with hostile_line({1: good, 2: good}) as line:
        kind, enough = ModbusKind(), asyncio.Event()
        devices = [device_on(line, unit=unit, first=(0,)) for unit in (1, 2)]
        devices += [device_on(line, unit=unit, first=(0,), timeout_s=0.05) for unit in (30, 31, 32)]
        seen: list[list[str]] = [[] for _ in devices]
        await asyncio.gather(
            *(
                scan_without_pause(kind.driver(device, SystemClock()), device, found, enough)
                for device, found in zip(devices, seen, strict=True)
            )
        )

    asked = [sum(request.unit == device.unit for request in line.asked) for device in devices]
    assert set(seen[0]) == set(seen[1]) == {"good"}
    assert abs(len(seen[0]) - len(seen[1])) <= 3
    assert all(set(found) == {"unreachable"} for found in seen[2:])
    assert all(count >= 1 for count in asked)
    assert sum(asked[2:]) * 5 <= sum(asked[:2])


async def test_a_long_scan_delays_a_short_one_by_one_request(hostile_line: Any) -> None:
    async with hostile_line({1: good, 2: good}) as line:
        kind = ModbusKind()
        long = device_on(line, unit=1, first=tuple(range(0, 3000, 100)))
        short = device_on(line, unit=2, first=(0,))
        await asyncio.gather(outcomes(long, 1, kind), outcomes(short, 15, kind))

    units = [request.unit for request in line.asked]
    assert "111" not in "".join(map(str, units[units.index(2) : len(units) - units[::-1].index(2)]))


async def test_a_line_of_noise_is_dropped_and_fills_no_memory(hostile_line: Any) -> None:
    async with hostile_line({7: always(lambda q: b"\x55" * 3000)}) as line:
        found, _ = await outcomes(device_on(line, timeout_s=TIMEOUT_S), 6)

    assert "violation" in found
    assert "too much kept" not in found
    assert "good" not in found


async def test_a_line_that_is_unplugged_is_unreachable_and_comes_back(hostile_line: Any) -> None:
    async with hostile_line({7: good}) as line:
        device = device_on(line)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        async with driver.connect() as session:
            before = judge(await session.read(plan), device)
            line.unplug()
            with pytest.raises(DeviceUnreachable, match="is its adapter plugged in"):
                await session.read(plan)
        with pytest.raises(DeviceUnreachable, match="is its adapter plugged in"):
            async with driver.connect():
                pass
        line.plug_in()
        async with driver.connect() as session:
            after = judge(await session.read(plan), device)

    assert (before, after) == ("good", "good")


async def test_a_serial_port_has_one_user(hostile_line: Any, tmp_path: Path) -> None:
    async with hostile_line({7: good}) as line:
        device = device_on(line)
        ours, others = (ModbusKind().driver(device, SystemClock()) for _ in range(2))
        async with ours.connect():
            with pytest.raises(DeviceRefused, match="in use by another program"):
                async with others.connect():
                    pass
        async with others.connect() as session:
            assert judge(await session.read(others.plan(device.scan_groups[0].tags)), device) == "good"
        line.port = tmp_path / "file"
        line.port.write_text("")
        with pytest.raises(DeviceRefused, match="is not a serial port"):
            async with ModbusKind().driver(device_on(line), SystemClock()).connect():
                pass
        line.port = tmp_path / "port"


async def test_cancelling_at_any_await_leaves_nothing_open(hostile_line: Any) -> None:
    async with hostile_line({7: good}) as line:
        device = device_on(line)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)

        async def use() -> str:
            async with driver.connect() as session:
                return judge(await session.read(plan), device)

        for steps in range(60):
            task = asyncio.create_task(use())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while True:  # A port that a cancelled attempt is opening is closed when it is open.
            try:
                outcome = await use()
                break
            except DeviceRefused:
                await asyncio.sleep(0)

    assert outcome == "good"


async def test_a_cancelled_scan_leaves_no_answer_for_the_next(hostile_line: Any) -> None:
    answered = asyncio.Event()

    async def slow(request: Any, send: Send) -> None:
        await asyncio.sleep(TIMEOUT_S / 4)
        send(request.answer())
        answered.set()

    async with hostile_line({7: slow}) as line:
        devices = [device_on(line, first=(block,)) for block in (0, 500)]
        driver = ModbusKind().driver(devices[0], SystemClock())
        plans = [driver.plan(device.scan_groups[0].tags) for device in devices]
        async with driver.connect() as session:
            cancelled = asyncio.create_task(session.read(plans[0]))
            while not line.asked:  # noqa: ASYNC110 - the line reads when its loop does.
                await asyncio.sleep(0)
            cancelled.cancel()
            reading = await session.read(plans[1])

    assert judge(reading, devices[1]) == "good"


async def test_a_converter_that_floods_is_dropped(hostile: Any) -> None:
    async def flood(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with hostile(None, flood) as device:
        found, _ = await outcomes(device_on(device, host="127.0.0.1", port=device.port, framing="rtu"), 2)

    assert found == ["violation"] * 2


async def test_a_refused_address_is_bad_alone_on_a_line_too(hostile_line: Any) -> None:
    """Also after silences, when a refusal could be late."""
    silences = iter([False] * 2)

    async def refuse(request: Any, send: Send) -> None:
        if next(silences, True):
            missing = request.first <= 305 < request.first + request.count
            send(request.refusal(2) if missing else request.answer())

    async with hostile_line({7: refuse}) as line:
        device = device_on(line, timeout_s=5 * TIMEOUT_S)
        driver = ModbusKind().driver(device, SystemClock())
        plan = driver.plan(device.scan_groups[0].tags)
        for _ in range(6):
            try:
                async with driver.connect() as session:
                    for _ in range(8):
                        reading = await session.read(plan)
            except DeviceUnreachable:
                continue

    assert judge(reading, device) == "partly"
    assert reading.status == ((15, 1, StatusCode.BAD_ADDRESS),)
