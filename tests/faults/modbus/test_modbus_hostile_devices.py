"""Whatever a device sends, a value is right or it is BAD, and its neighbours do not notice."""

from __future__ import annotations

import asyncio
import socket
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import Reading, StatusCode, status_codes

Writer = asyncio.StreamWriter
BLOCKS = (0, 300, 600)  # Three requests a scan, of ten registers each.
TAGS = [block + i for block in BLOCKS for i in range(10)]


def device_at(port: int, **limits: Any) -> ModbusDevice:
    tags = [{"name": f"t{i}", "address": f"holding {i}", "type": "uint16"} for i in TAGS]
    return ModbusDevice.model_validate(
        {"name": "device", "driver": "modbus", "host": "127.0.0.1", "port": port, "unit": 7,
         "limits": {"timeout": "80 ms"} | limits, "scan_groups": [{"every": "1 s", "tags": tags}]}
    )  # fmt: skip


def judge(reading: Reading) -> str:
    """Every value that is not BAD must be right: "good", "bad" or "partly"."""
    codes = status_codes(reading.status, len(TAGS))
    for expected, value, code in zip(TAGS, reading.vectors[0].tolist(), codes.tolist(), strict=True):
        assert code or value == expected
    return "bad" if codes.all() else "partly" if codes.any() else "good"


async def outcomes(port: int, times: int = 3, **limits: Any) -> tuple[list[str], list[str]]:
    """What each of some scans came to, with a new session after each failure; and the violations reported."""
    device = device_at(port, **limits)
    driver = ModbusKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    found: list[str] = []
    violations: list[str] = []
    while len(found) < times:
        try:
            async with driver.connect() as session:
                while len(found) < times:
                    reading = await session.read(plan)
                    found.append(judge(reading))
                    violations += reading.violations
        except DeviceUnreachable:
            found.append("unreachable")
        except ProtocolViolation as violation:
            found.append("violation" if len(violation.data) <= 260 else "too much kept")
    return found, violations


def answer(make: Callable[[Any], bytes]) -> Any:
    async def behave(asked: list[Any], writer: Writer) -> None:
        writer.write(make(asked[-1]))

    return behave


async def say_nothing(asked: list[Any], writer: Writer) -> None:
    pass


async def close_at_once(asked: list[Any], writer: Writer) -> None:
    writer.transport.abort()


async def reset(asked: list[Any], writer: Writer) -> None:
    writer.write(asked[-1].frame()[:11])
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def one_byte_per_write(asked: list[Any], writer: Writer) -> None:
    for byte in asked[-1].frame():
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)


async def cut_short(asked: list[Any], writer: Writer) -> None:
    writer.write(asked[-1].frame()[:15])


async def flood(asked: list[Any], writer: Writer) -> None:
    while True:
        writer.write(asked[-1].frame(transaction=(asked[-1].transaction + 999) % 65535 + 1) * 50)
        await writer.drain()


async def flood_of_copies(asked: list[Any], writer: Writer) -> None:
    while True:
        writer.write(asked[-1].frame() * 50)
        await writer.drain()


async def endless_length(asked: list[Any], writer: Writer) -> None:
    writer.write(asked[-1].frame(length=0xFFFF))
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def late_by_one(asked: list[Any], writer: Writer) -> None:
    """Says nothing to each second request, and gives that answer before the one to the request after it."""
    if len(asked) % 2 == 0:
        return
    if len(asked) > 1:
        writer.write(asked[-2].frame())
    writer.write(asked[-1].frame())


async def always_the_previous(asked: list[Any], writer: Writer) -> None:
    if len(asked) > 1:
        writer.write(asked[-2].frame())


async def right_after_wrong(asked: list[Any], writer: Writer) -> None:
    writer.write(asked[-1].frame(unit=9, data=bytes(20)) + asked[-1].frame())


async def greet_with_an_answer(writer: Writer) -> None:
    writer.write(struct.pack(">HHHBBB", 1, 0, 23, 7, 3, 20) + bytes(20))


async def greet_with_text(writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")


BAD, GOOD, GONE, BROKEN = ["bad"] * 3, ["good"] * 3, ["unreachable"] * 3, ["violation"] * 3

BEHAVIOURS: dict[str, tuple[Any, list[str]]] = {
    "closes after the request": (close_at_once, GONE),
    "resets within an answer": (reset, GONE),
    "silence": (say_nothing, GONE),
    "one byte per write": (one_byte_per_write, GOOD),
    "two answers": (answer(lambda q: q.frame() * 2), GOOD),
    "other unit": (answer(lambda q: q.frame(unit=8)), BAD),
    "unit 0": (answer(lambda q: q.frame(unit=0)), BAD),
    "other function": (answer(lambda q: q.frame(function=4)), BAD),
    "a writing function": (answer(lambda q: q.frame(function=16)), BAD),
    "too few registers": (answer(lambda q: q.frame(data=bytes(18))), BAD),
    "too many registers": (answer(lambda q: q.frame(data=bytes(22))), BAD),
    "half a register": (answer(lambda q: q.frame(data=bytes(19))), BAD),
    "no registers": (answer(lambda q: q.frame(data=b"")), BAD),
    "byte count too small": (answer(lambda q: q.frame(byte_count=18)), BAD),
    "byte count too large": (answer(lambda q: q.frame(byte_count=250)), BAD),
    "byte count zero": (answer(lambda q: q.frame(byte_count=0)), BAD),
    "transaction 0": (answer(lambda q: q.frame(transaction=0)), BAD),
    "a transaction never asked": (answer(lambda q: q.frame(transaction=(q.transaction + 50) % 65535 + 1)), BAD),
    "transaction with swapped bytes": (
        answer(lambda q: q.frame(transaction=int.from_bytes(q.transaction.to_bytes(2, "little")) ^ 0x4000)),
        BAD,
    ),
    "protocol 1": (answer(lambda q: q.frame(protocol=1)), BROKEN),
    "length 0": (answer(lambda q: q.frame(length=0)), BROKEN),
    "length 2": (answer(lambda q: q.frame(length=2)), BROKEN),
    "length 255": (answer(lambda q: q.frame(length=255)), BROKEN),
    "length without end": (endless_length, BROKEN),
    "length shorter than the data": (answer(lambda q: q.frame(length=13)), BROKEN),
    "garbage": (answer(lambda q: bytes(range(64, 128))), BROKEN),
    "a web page": (answer(lambda q: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), BROKEN),
    "zeros": (answer(lambda q: bytes(64)), BROKEN),
    "the request itself": (answer(lambda q: q.frame(length=6, byte_count=0, data=b"\0\0\12")), BAD),
    "illegal address for all": (answer(lambda q: q.exception(2)), BAD),
    "device failure": (answer(lambda q: q.exception(4)), BAD),
    "busy": (answer(lambda q: q.exception(6)), BAD),
    "exception 0": (answer(lambda q: q.exception(0)), BAD),
    "exception 255": (answer(lambda q: q.exception(255)), BAD),
    "exception to another function": (answer(lambda q: q.frame(function=0x84, data=b"", byte_count=2)), BAD),
    "exception with more behind it": (answer(lambda q: q.frame(function=0x83, data=bytes(20))), BAD),
    "gateway cannot reach it": (answer(lambda q: q.exception(11)), GONE),
    "a flood of strangers": (flood, BROKEN),
    "a wrong answer, then the right one": (right_after_wrong, ["bad", "bad", "violation"]),
}


@pytest.mark.parametrize("in_flight", [1, 3], ids=["in turn", "pipelined"])
@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_hostile_device_never_yields_a_wrong_value(hostile: Any, name: str, in_flight: int) -> None:
    behave, expected = BEHAVIOURS[name]
    async with hostile(behave) as device:
        found, _ = await outcomes(device.port, in_flight=in_flight)

    assert found == expected


@pytest.mark.parametrize(
    "name", ["other unit", "other function", "too few registers", "transaction 0", "device failure"]
)
async def test_a_wrong_answer_is_told_in_a_sentence(hostile: Any, name: str) -> None:
    async with hostile(BEHAVIOURS[name][0]) as device:
        _, violations = await outcomes(device.port, times=1)

    assert len(violations) == len(BLOCKS)


@pytest.mark.parametrize("in_flight", [1, 3], ids=["in turn", "pipelined"])
async def test_answers_that_are_cut_short_are_never_patched_together(hostile: Any, in_flight: int) -> None:
    async with hostile(cut_short) as device:
        found, _ = await outcomes(device.port, in_flight=in_flight)

    assert found == (GONE if in_flight == 1 else BROKEN)


async def test_a_late_answer_is_never_taken_for_the_next_one(hostile: Any) -> None:
    async with hostile(late_by_one) as device:
        found, violations = await outcomes(device.port, times=4)

    assert "good" not in found
    assert "partly" in found
    assert violations == []


async def test_an_answer_to_the_request_before_is_never_taken(hostile: Any) -> None:
    async with hostile(always_the_previous) as device:
        found, _ = await outcomes(device.port)

    assert "good" not in found


async def test_a_flood_of_copies_ends_the_session(hostile: Any) -> None:
    async with hostile(flood_of_copies) as device:
        found, _ = await outcomes(device.port)

    assert "violation" in found


async def test_an_answer_before_any_request_is_nobodys(hostile: Any) -> None:
    async with hostile(answer(lambda q: q.frame()), greet_with_an_answer) as device:
        found, _ = await outcomes(device.port)

    assert found[1:] == ["good", "good"]


async def test_another_service_on_the_port_is_a_violation(hostile: Any) -> None:
    async with hostile(say_nothing, greet_with_text) as device:
        found, _ = await outcomes(device.port)

    assert set(found) <= {"violation", "unreachable"}


async def test_a_device_that_closes_after_accepting_is_unreachable(hostile: Any) -> None:
    async def close(writer: Writer) -> None:
        writer.transport.abort()

    async with hostile(say_nothing, close) as device:
        found, _ = await outcomes(device.port)

    assert found == GONE


async def test_one_lost_answer_costs_only_its_tags(hostile: Any) -> None:
    async def behave(asked: list[Any], writer: Writer) -> None:
        if asked[-1].first != 300:
            writer.write(asked[-1].frame())

    async with hostile(behave) as device:
        spec = device_at(device.port)
        driver = ModbusKind().driver(spec, SystemClock())
        plan = driver.plan(spec.scan_groups[0].tags)
        async with driver.connect() as session:
            readings = [await session.read(plan) for _ in range(3)]

    for reading in readings:
        assert judge(reading) == "partly"
        assert reading.status == ((10, 10, StatusCode.BAD_NO_COMMUNICATION),)


async def test_a_busy_device_is_asked_once_more(hostile: Any) -> None:
    async def behave(asked: list[Any], writer: Writer) -> None:
        times = sum(before.first == asked[-1].first for before in asked)
        writer.write(asked[-1].exception(6) if times == 1 else asked[-1].frame())

    async with hostile(behave) as device:
        found, violations = await outcomes(device.port, times=1)

    assert (found, violations) == (["good"], [])


async def test_a_device_that_refuses_long_requests_is_read_in_short_ones(hostile: Any) -> None:
    async def behave(asked: list[Any], writer: Writer) -> None:
        writer.write(asked[-1].frame() if asked[-1].count <= 6 else asked[-1].exception(3))

    async with hostile(behave) as device:
        found, _ = await outcomes(device.port)

    assert found == GOOD


async def test_a_connection_takes_no_more_memory_than_its_buffer(hostile: Any) -> None:
    sent = 0

    async def behave(asked: list[Any], writer: Writer) -> None:
        nonlocal sent
        chunk = bytes(1 << 16)
        writer.write(asked[-1].frame(length=0xFFFF))
        while True:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    async with hostile(behave) as device:
        await outcomes(device.port, times=1)
        tracemalloc.start()
        try:
            found, _ = await outcomes(device.port, times=5)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert found == ["violation"] * 5
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize("name", ["silence", "a flood of strangers", "one byte per write", "garbage"])
async def test_a_neighbour_is_not_disturbed(hostile: Any, name: str) -> None:
    async with hostile(BEHAVIOURS[name][0]) as bad, hostile(answer(lambda q: q.frame())) as good:
        trouble = asyncio.create_task(outcomes(bad.port, times=4))
        found, violations = await outcomes(good.port, times=30)
        await trouble

    assert found == ["good"] * 30
    assert violations == []


async def test_a_device_that_behaves_again_is_read_again(hostile: Any) -> None:
    async with hostile(say_nothing) as device:
        before, _ = await outcomes(device.port, times=1)
        device.behave = answer(lambda q: q.frame())
        after, _ = await outcomes(device.port, times=1)

    assert (before, after) == (["unreachable"], ["good"])
