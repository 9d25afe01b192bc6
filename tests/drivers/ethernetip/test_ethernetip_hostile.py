"""For any bytes from a device, a value is right or it is BAD, and memory is bounded."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import pytest

from drivers.ethernetip import simulator
from drivers.ethernetip.connection import Connection
from drivers.ethernetip.encapsulation import Request
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import Controller, LogixServer
from edge.clock import SystemClock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import StatusCode

MakeDevice = Callable[..., EtherNetIpDevice]
Distort = Callable[[bytes], bytes | None]
BODY = 46
TAGS = [("A", "DINT"), ("B", "REAL"), ("C", "BOOL"), ("D.3", "BOOL"), ("E", "STRING"), ("F[1]", "INT"), ("F[2]", "INT")]
RIGHT = [11, 2.5, True, True, "text", 2, 3]


def plant() -> Controller:
    plc = Controller()
    plc.tag("A", simulator.DINT, 11)
    plc.tag("B", simulator.REAL, 2.5)
    plc.tag("C", simulator.BOOL, True)
    plc.tag("D", simulator.DINT, 8)
    plc.tag("E", simulator.STRING, "text")
    plc.tag("F", simulator.INT[4], [1, 2, 3, 4])
    return plc


def patched(frame: bytes, at: int, data: bytes) -> bytes:
    return frame[:at] + data + frame[at + len(data) :]


def with_body(frame: bytes, body: bytes) -> bytes:
    """The same frame with another reply in it, its lengths right."""
    size = 22 + len(body)
    frame = patched(frame, 2, struct.pack("<H", size))
    return patched(frame, 42, struct.pack("<H", size - 20))[:BODY] + body


def body(change: Callable[[bytes], bytes]) -> Distort:
    return lambda frame: with_body(frame, change(frame[BODY:]))


def together(change: Callable[[bytes], bytes]) -> Distort:
    """Change answers to several reads: in that to one, the same bytes may be a value."""
    return body(lambda data: change(data) if data[0] == 0x8A else data)


def offset(number: int, value: int) -> Distort:
    return together(lambda data: patched(data, 6 + 2 * number, struct.pack("<H", value)))


def at(position: int, data: bytes) -> Distort:
    return lambda frame: patched(frame, position, data)


HOSTILE: dict[str, Distort] = {
    "another command": at(0, b"\x6f"),
    "a length of 65535": at(2, b"\xff\xff"),
    "a length of 0": at(2, b"\0\0"),
    "a length one short": lambda frame: patched(frame, 2, struct.pack("<H", len(frame) - 25)),
    "another session": at(4, b"\xde\xad\xbe\xef"),
    "session 0": at(4, bytes(4)),
    "status: no such session": at(8, b"\x64"),
    "status: unknown": at(8, b"\xff\xff\xff\xff"),
    "options": at(20, b"\x01"),
    "another interface": at(24, b"\x01"),
    "three items": at(30, b"\x03"),
    "no items": at(30, b"\x00"),
    "another address item": at(32, b"\xb1"),
    "another connection": at(36, b"\x01\x02\x03\x04"),
    "connection 0": at(36, bytes(4)),
    "another data item": at(40, b"\xb2"),
    "a data item too long": at(42, b"\xff\xff"),
    "a data item too short": at(42, b"\x03\x00"),
    "a sequence never used": at(44, b"\xaa\x7a"),
    "nothing in it": body(lambda data: b""),
    "one byte in it": body(lambda data: data[:1]),
    "another service": body(lambda data: b"\xcc" + data[1:]),
    "a request": body(lambda data: b"\x0a" + data[1:]),
    "an extended status that is not there": body(lambda data: patched(data, 3, b"\xff")),
    "fewer replies than asked": body(lambda data: patched(data, 4, b"\x01\x00")),
    "more replies than asked": body(lambda data: patched(data, 4, b"\xff\xff")),
    "an offset before the first reply": offset(0, 2),
    "an offset beyond the end": offset(1, 65_535),
    "offsets going back": offset(2, 16),
    "two replies at one place": together(lambda data: patched(data, 8, data[6:8])),
    "a reply without a status": offset(1, 0x12),
    "cut within the last reply": body(lambda data: data[:-3]),
    "bytes after the last reply": body(lambda data: data + bytes(5)),
    "all of it zero": lambda frame: bytes(len(frame)),
    "all of it ones": lambda frame: b"\xff" * len(frame),
    "text": lambda frame: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "nothing": lambda frame: None,
    "half a frame": lambda frame: frame[: len(frame) // 2],
    "a whole packet refused": body(lambda data: data[:2] + b"\x02\x00"),
    "too large, always": body(lambda data: data[:2] + b"\x11\x00"),
    "does not know its services": body(lambda data: data[:2] + b"\x08\x00"),
    "partial, always": body(lambda data: data[:1] + b"\0\x06\0" + data[4:]),
}


@pytest.mark.requirement("REQ-READ-04")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_brings_no_wrong_value(make_device: MakeDevice, client: Any, name: str) -> None:
    plc = plant()
    limits = {"timeout": "100 ms"}
    async with LogixServer(plc) as server:
        one = client(make_device(TAGS, port=server.port, limits=limits))
        async with one.driver.connect() as session:
            assert one.values(await session.read(one.plan)) == RIGHT
            plc.distort = HOSTILE[name]
            try:
                values = one.values(await session.read(one.plan))
            except (DeviceUnreachable, ProtocolViolation):
                values = []
            plc.distort = None
        # It behaves again: so do we.
        (after,) = await one.read()

    assert all(value == right or isinstance(value, StatusCode) for value, right in zip(values, RIGHT, strict=False))
    assert one.values(after) == RIGHT


class Wire:
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None: ...


async def test_an_answer_that_came_in_time_counts_also_when_the_loop_was_late() -> None:
    """After the loop was held up, an answer and the end of its time limit are seen in the same turn."""
    connection = Connection("plc", SystemClock(), timeout_s=60)
    connection.connection_made(cast("asyncio.BaseTransport", Wire()))
    pending = asyncio.create_task(connection.ask(Request.REGISTER))
    await asyncio.sleep(0)
    answer = struct.pack("<HHII8sIHH", 0x65, 4, 7, 0, bytes(8), 0, 1, 0)
    connection.get_buffer(0)[: len(answer)] = answer
    connection.buffer_updated(len(answer))
    connection._deadline_s = 0
    connection._check_deadline()
    await pending

    assert (connection.client.session, connection.is_lost) == (7, False)


async def test_the_end_of_a_pause_sends_one_question_and_not_a_cancelled_one() -> None:
    wire = Wire()
    connection = Connection("plc", SystemClock(), timeout_s=60, gap_s=60)
    connection.connection_made(cast("asyncio.BaseTransport", wire))
    connection._free_at_s = asyncio.get_running_loop().time() + 60
    for _ in range(2):
        cancelled = asyncio.create_task(connection.ask(Request.LIST_IDENTITY))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
    connection._free_at_s = 0
    pending = asyncio.create_task(connection.ask(Request.LIST_IDENTITY))
    await asyncio.sleep(0)
    assert connection._pause is not None
    connection._pause.cancel()
    connection._after_pause()

    assert len(wire.sent) == 1
    connection.drop(DeviceUnreachable("the test is over"))
    await asyncio.wait([pending])
    assert isinstance(pending.exception(), DeviceUnreachable)


@pytest.mark.parametrize(
    "name", ["an answer twice", "an old answer first", "nothing first", "a stranger's frame first"]
)
async def test_what_was_not_asked_is_passed_over_or_ends_the_session(
    make_device: MakeDevice, client: Any, name: str
) -> None:
    plc = plant()
    seen: list[bytes] = []

    def distort(frame: bytes) -> bytes:
        seen.append(frame)
        if name == "an answer twice":
            return frame + frame
        if name == "an old answer first":
            return seen[max(0, len(seen) - 2)] + frame
        if name == "nothing first":
            return bytes(24) + frame
        return bytes((0x04, 0, 0, 0)) + bytes(20) + frame

    async with LogixServer(plc) as server:
        one = client(make_device(TAGS, port=server.port, limits={"timeout": "100 ms"}))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            plc.distort = distort
            for value in range(20):
                plc["A"] = value
                try:
                    reading = await session.read(one.plan)
                except (ProtocolViolation, DeviceUnreachable):
                    assert name == "a stranger's frame first"
                    break
                assert one.values(reading)[0] == value


async def test_a_copy_of_an_answer_in_a_pause_is_not_the_next_answer(make_device: MakeDevice, client: Any) -> None:
    """Two packets with the same layout: their answers differ in the sequence count only."""
    plc = Controller()
    for number in range(4):
        plc.tag(f"T{number}", simulator.DINT, number)
    tags = [(f"T{number}", "DINT") for number in range(4)]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port, limits={"gap": "20 ms", "packet_tags": 2}))
        async with one.driver.connect() as session:
            plc.distort = lambda frame: frame + frame
            readings = [await session.read(one.plan) for _ in range(3)]

    assert [one.values(reading) for reading in readings] == [[0, 1, 2, 3]] * 3


async def test_a_flipped_byte_is_noticed_unless_it_is_a_value(make_device: MakeDevice, client: Any) -> None:
    """Every byte of an answer that is not part of a value is compared."""
    plc = plant()
    async with LogixServer(plc) as server:
        one = client(make_device(TAGS, port=server.port, limits={"timeout": "200 ms"}))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            poll = session._polls[one.plan]
            mask, answer = poll._patterns[0]._mask, poll._bodies[0]
        replies = struct.unpack_from("<6H", answer, 6)
        # The timeout, and a reserved byte in each reply, mean nothing in an answer; nor which bit of a byte a BOOL is.
        unused = {28, 29, BODY + 1} | {BODY + 4 + first + 1 for first in replies} | {BODY + 4 + replies[2] + 5}
        fixed = [BODY + int(position) for position in mask.nonzero()[0]]
        for position in sorted({*range(12), *range(24, BODY), *fixed} - unused):
            async with one.driver.connect() as session:
                await session.read(one.plan)
                # Once they are asked alone, the same byte of an answer may be a value.
                plc.distort = lambda frame, position=position: (
                    patched(frame, position, bytes((frame[position] ^ 0x01,))) if frame[BODY] == 0x8A else frame
                )
                try:
                    values = one.values(await session.read(one.plan))
                except (DeviceUnreachable, ProtocolViolation):
                    values = []
                plc.distort = None
                is_asked_anew = session._polls[one.plan].is_split
            wrong = [v for v, right in zip(values, RIGHT, strict=False) if v != right and not isinstance(v, StatusCode)]
            assert not wrong, f"byte {position}"
            assert values != RIGHT or is_asked_anew, f"byte {position} was not compared"


def only(service: int, change: Callable[[bytes], bytes]) -> Distort:
    """Change the body of answers to one service on the connection."""

    def distort(frame: bytes) -> bytes:
        if frame[0] == 0x70 and frame[BODY] == service | 0x80:
            return with_body(frame, change(frame[BODY:]))
        return frame

    return distort


SYMBOL = struct.pack("<IH", 1, 1) + b"Z" + struct.pack("<H3I", 0xC4, 0, 0, 0)
FACTS = struct.Struct("<HHHIHHIHHHHHH")


def facts(words: int, size: int, members: int) -> Callable[[bytes], bytes]:
    held = FACTS.pack(4, 4, 0, words, 5, 0, size, 2, 0, members, 1, 0, 7)
    return lambda data: data[:4] + held if len(data) == 4 + FACTS.size else data


LISTS: dict[str, Distort] = {
    "tags without an end": only(0x55, lambda data: b"\xd5\0\x06\0" + SYMBOL),
    "a tag after which none can be, and more to come": only(
        0x55, lambda data: b"\xd5\0\x06\0" + b"\xff\xff\xff\xff" + SYMBOL[4:]
    ),
    "nothing, and more to come": only(0x55, lambda data: b"\xd5\0\x06\0"),
    "a name of 65535 bytes": only(0x55, lambda data: b"\xd5\0\0\0" + struct.pack("<IH", 1, 65_535) + b"Z"),
    "half a tag": only(0x55, lambda data: data[:-5]),
    "a template of 65535 members": only(0x03, facts(60_000, 64, 65_535)),
    "a definition of 16 GB": only(0x03, facts(0xFFFFFFFF, 64, 4)),
    "a structure of 4 GB": only(0x03, facts(100, 0xFFFFFFFF, 4)),
    "a structure of nothing": only(0x03, facts(100, 0, 4)),
    "attributes cut short": only(0x03, lambda data: data[:9]),
    "a structure in itself": only(
        0x4C, lambda data: patched(data, 6, b"\x01\x90") if len(data) > 60 and data[:1] == b"\xcc" else data
    ),
    "members beyond the end": only(
        0x4C, lambda data: patched(data, 8, b"\xff\xff\0\0") if len(data) > 60 and data[:1] == b"\xcc" else data
    ),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_hostile_list_costs_no_value_and_little_memory(make_device: MakeDevice, client: Any, name: str) -> None:
    plc = Controller()
    kind = plc.structure(
        "Drive", {"Ready": simulator.BOOL, "Code": simulator.INT, "Speed": simulator.REAL, "Total": simulator.LINT}
    )
    plc.tag("Drive", kind, {"Ready": True, "Code": 7, "Speed": 2.5, "Total": -3})
    plc.distort = LISTS[name]
    tags = [("Drive.Ready", "BOOL"), ("Drive.Code", "INT"), ("Drive.Speed", "REAL"), ("Drive.Total", "LINT")]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port, limits={"timeout": "2 s"}))
        tracemalloc.start()
        try:
            async with one.driver.connect() as session:
                readings = [await session.read(one.plan) for _ in range(30)]
                with pytest.raises((ProtocolViolation, LookupError)) if "half" in name else _whatever():
                    await session.browse("Drive")
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert [one.values(reading) for reading in readings] == [[True, 7, 2.5, -3]] * 30
    assert most_bytes < 16 << 20


class _whatever:  # noqa: N801 - reads as a word
    """Some lists are wrong only for a scan."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ProtocolViolation | LookupError)


FRAGMENTS: dict[str, Callable[[bytes], bytes]] = {
    "empty ones without an end": lambda data: b"\xd2\0\x06\0" + data[4:6],
    "one byte at a time": lambda data: b"\xd2\0\x06\0" + data[4:7],
    "the whole again and again": lambda data: b"\xd2\0\x06\0" + data[4:],
    "of another type": lambda data: data[:4] + b"\xca\0" + data[6:],
    "one that is not there": lambda data: b"\xd2\0\xff\x01\x05\x21",
    "without a type": lambda data: b"\xd2\0\0\0",
    "too soon at an end": lambda data: b"\xd2\0\0\0" + data[4:],
}


@pytest.mark.parametrize("name", FRAGMENTS)
async def test_hostile_fragments_cost_their_tag_only(make_device: MakeDevice, client: Any, name: str) -> None:
    plc = plant()
    plc.tag("Report", plc.string("STRING900", 900), "x" * 900)
    plc.distort = only(0x52, FRAGMENTS[name])
    tags: list[Any] = [("A", "DINT"), {"address": "Report", "type": "STRING", "length": 900}]
    async with LogixServer(plc) as server:
        one = client(make_device(tags, port=server.port, limits={"connection_bytes": 504}))
        readings = await one.read(times=2)

    for reading in readings:
        first, second = one.values(reading)
        assert first == 11
        assert isinstance(second, StatusCode)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda frame: patched(frame, 4, bytes(4)), (DeviceUnreachable, ProtocolViolation)),
        (lambda frame: patched(frame, 8, b"\x01"), DeviceRefused),
        (lambda frame: frame[:24] + b"\x02\0\0\0\0\0\0\0", (ProtocolViolation, DeviceUnreachable)),
        (lambda frame: b"\x16\x03\x01\x00\x02" + bytes(40), (ProtocolViolation, DeviceUnreachable)),
    ],
)
async def test_a_hostile_welcome_is_refused(
    make_device: MakeDevice, client: Any, change: Distort, error: type[Exception]
) -> None:
    plc = plant()
    plc.distort = lambda frame: change(frame) if frame[0] == 0x65 else frame
    async with LogixServer(plc) as server:
        one = client(make_device(TAGS, port=server.port, limits={"timeout": "100 ms"}))
        with pytest.raises(error):
            await one.read()


@pytest.mark.parametrize("cut", [40, 44, 50, 60])
async def test_a_hostile_forward_open_is_refused(make_device: MakeDevice, client: Any, cut: int) -> None:
    """An answer that is too short, or names another connection."""
    plc = plant()

    def distort(frame: bytes) -> bytes:
        if frame[0] != 0x6F or frame[40] not in (0xDB, 0xD4):
            return frame
        if cut == 60:
            return patched(frame, 48, b"\xde\xad")
        size = cut - 24
        frame = patched(frame, 2, struct.pack("<H", size))
        return patched(frame, 38, struct.pack("<H", size - 16))[:cut]

    plc.distort = distort
    async with LogixServer(plc) as server:
        one = client(make_device(TAGS, port=server.port, limits={"timeout": "100 ms"}))
        with pytest.raises((DeviceRefused, DeviceUnreachable, ProtocolViolation)):
            await one.read()


async def test_one_byte_at_a_time_is_an_answer_or_too_late(make_device: MakeDevice, client: Any) -> None:
    plc = plant()
    plc.distort = lambda frame: frame[:10]
    async with LogixServer(plc) as server:
        one = client(make_device(TAGS, port=server.port, limits={"timeout": "50 ms", "connect_timeout": "500 ms"}))
        with pytest.raises(DeviceUnreachable):
            await one.read()
