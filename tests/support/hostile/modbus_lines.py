"""Hostile Modbus devices whose answers bear no transaction id: RTU and ASCII, over TCP and on a line."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from drivers.modbus import ModbusKind
from drivers.modbus.framing import Ascii, Framing, Rtu, crc16
from tests.support.hostile import liar
from tests.support.hostile.behaviour import Behaviour, Outcome, Protocol
from tests.support.hostile.liar import Liar, Lie, Listen, Writer, answer, says
from tests.support.hostile.modbus import BLOCKS, TAGS, UNIT, registers
from tests.support.hostile.port import PortLiar

_READ_HOLDING = 3
_REQUEST_BYTES = {_READ_HOLDING: 8, 43: 7}
_ILLEGAL_FUNCTION = 1


@dataclass(frozen=True, slots=True)
class LineQuestion:
    """One request on a line, and the registers as they were when it came."""

    framing: Framing
    body: bytes
    data: bytes

    @property
    def answer(self) -> bytes:
        """See `liar.Asked`."""
        return self.frame() if self.body[1] == _READ_HOLDING else self.exception(_ILLEGAL_FUNCTION)

    def frame(
        self, *, unit: int | None = None, function: int | None = None, byte_count: int | None = None,
        data: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """The right answer, except for the arguments."""
        body = self.data if data is None else data
        head = (
            self.body[0] if unit is None else unit,
            self.body[1] if function is None else function,
            len(body) if byte_count is None else byte_count,
        )
        return self.framing.frame(bytes(head) + body)

    def exception(self, code: int) -> bytes:
        """A refusal."""
        return self.framing.frame(bytes((self.body[0], self.body[1] | 0x80, code)))

    @property
    def first(self) -> int:
        """The first register asked for."""
        return int.from_bytes(self.body[2:4], "big")


def _question(framing: Framing, body: bytes) -> LineQuestion:
    first, count = struct.unpack_from(">HH", body, 2) if body[1] == _READ_HOLDING else (0, 0)
    return LineQuestion(framing, body, registers(first, count))


async def _listen_rtu(reader: asyncio.StreamReader) -> AsyncIterator[LineQuestion]:
    framing, received = Rtu(), bytearray()
    while True:
        received += await reader.readexactly(1)
        size = _REQUEST_BYTES.get(received[1], 0) if len(received) > 1 else 8
        if len(received) > 1 and (not size or len(received) > size):
            del received[0]
        elif len(received) == size and crc16(received[:-2]) == received[-2:]:
            yield _question(framing, bytes(received[:-2]))
            received.clear()


async def _listen_ascii(reader: asyncio.StreamReader) -> AsyncIterator[LineQuestion]:
    framing = Ascii()
    while True:
        line = await reader.readuntil(b"\r\n")
        yield _question(framing, bytes.fromhex(line[line.rindex(b":") + 1 : -2].decode())[:-1])


# Behaviours of more than one line.


def _garbled(question: LineQuestion) -> bytes:
    """A right answer in which one digit is changed, so that the checksum is wrong."""
    frame = bytearray(question.answer)
    at = 4 if isinstance(question.framing, Rtu) else 9
    frame[at] = frame[at] ^ 1 if isinstance(question.framing, Rtu) else ord("0") if frame[at] != ord("0") else ord("1")
    return bytes(frame)


async def _cut_short(asked: list[LineQuestion], writer: Writer) -> None:
    writer.write(asked[-1].answer[:15])


async def _flood_of_noise(asked: list[LineQuestion], writer: Writer) -> None:
    await liar.pour(writer, lambda: bytes(range(64, 128)) * 16)


async def _flood_of_copies(asked: list[LineQuestion], writer: Writer) -> None:
    await liar.pour(writer, lambda: asked[-1].answer * 50)


async def _flood_of_beginnings(asked: list[LineQuestion], writer: Writer) -> None:
    await liar.pour(writer, lambda: asked[-1].answer[:5] * 200)


async def _late_by_one(asked: list[LineQuestion], writer: Writer) -> None:
    if len(asked) % 2 == 0:
        return
    if len(asked) > 1:
        writer.write(asked[-2].answer)
    writer.write(asked[-1].answer)


async def _always_the_previous(asked: list[LineQuestion], writer: Writer) -> None:
    if len(asked) > 1:
        writer.write(asked[-2].answer)


async def _silence_now_and_then(asked: list[LineQuestion], writer: Writer) -> None:
    if asked[-1].first != BLOCKS[1]:
        writer.write(asked[-1].answer)


GOOD, PARTLY, BAD = Outcome.GOOD, Outcome.PARTLY, Outcome.BAD
GONE, BROKEN = Outcome.UNREACHABLE, Outcome.VIOLATION
WRONG = BAD | GONE  # A unit without a valid answer looks like a silent one.

_Opened = Callable[[Path], AbstractAsyncContextManager[Liar[LineQuestion]]]
_Start = Callable[[Lie[LineQuestion]], _Opened]


def _behaviours(way: _Start, *, has_end: bool) -> tuple[Behaviour, ...]:
    """The behaviours on one kind of line; it `has_end` where a device can close it."""

    def b(
        name: str, text: str, lie: Lie[LineQuestion], *expected: Outcome, is_heavy: bool = False, is_worst: bool = False
    ) -> Behaviour:
        sessions = 4 if is_heavy and not has_end else 2  # Bytes in the buffers of a line still arrive.
        return Behaviour(
            id=name,
            text=text,
            start=way(lie),
            expected=expected,
            is_heavy=is_heavy,
            is_worst=is_worst,
            sessions_to_recover=sessions,
        )

    ends = (
        b("closes", "closes after the request", liar.close_at_once, GONE),
        b("resets", "resets within an answer", liar.reset_within, GONE | PARTLY | GOOD),
    )
    return (*(ends if has_end else ()),
        b("silence", "says nothing", liar.say_nothing, GONE),
        b("byte-by-byte", "sends one byte per write", liar.one_byte_per_write, GOOD),
        b("cut-short", "ends every answer after 15 bytes", _cut_short, WRONG | PARTLY | GOOD),
        b("wrong-checksum", "a wrong checksum", answer(_garbled), WRONG, is_worst=True),
        b("two-answers", "answers twice", answer(lambda q: q.answer * 2), GOOD | PARTLY | BAD),
        b("noise-before", "noise before the answer", answer(lambda q: b"\x81\x55\xff" + q.answer), GOOD),
        b("noise-after", "noise after the answer", answer(lambda q: q.answer + b"\x81\x55\xff"), GOOD | PARTLY | BAD),
        b("other-unit", "answers for another unit", answer(lambda q: q.frame(unit=8)), WRONG),
        b("unit-0", "answers for unit 0", answer(lambda q: q.frame(unit=0)), WRONG),
        b("other-function", "answers another function", answer(lambda q: q.frame(function=4)), WRONG),
        b("writing-function", "answers a writing function", answer(lambda q: q.frame(function=16)), WRONG),
        b("too-few-registers", "has too few registers", answer(lambda q: q.frame(data=q.data[:-2])), WRONG),
        b("too-many-registers", "has too many registers", answer(lambda q: q.frame(data=q.data + bytes(2))), WRONG),
        b("half-a-register", "has half a register", answer(lambda q: q.frame(data=q.data[:-1])), WRONG),
        b("no-registers", "has no registers", answer(lambda q: q.frame(data=b"")), WRONG),
        b("byte-count-small", "byte count too small", answer(lambda q: q.frame(byte_count=18)), WRONG),
        b("byte-count-large", "byte count too large", answer(lambda q: q.frame(byte_count=250)), WRONG),
        b("echo", "sends the request back", answer(lambda q: q.framing.frame(q.body)), WRONG),
        b("illegal-address", "illegal address for all", answer(lambda q: q.exception(2)), BAD),
        b("device-failure", "device failure for all", answer(lambda q: q.exception(4)), BAD),
        b("gateway", "a gateway that cannot reach it", answer(lambda q: q.exception(11)), GONE),
        b("web-page", "a web page", says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), WRONG),
        b("zeros", "zeros", says(bytes(64)), WRONG),
        b("late", "answers late, before the answer to the next request", _late_by_one, PARTLY | BAD | GONE),
        b("always-the-previous", "answers the request before", _always_the_previous, PARTLY | BAD | GONE),
        b("silence-now-and-then", "answers two requests of three", _silence_now_and_then, PARTLY | BAD),
        b("flood", "noise without end", _flood_of_noise, GONE | BROKEN, is_heavy=True, is_worst=True),
        b("flood-of-copies", "the right answer, without end", _flood_of_copies, GONE | BROKEN, is_heavy=True),
        b("flood-of-beginnings", "beginnings of answers, without end", _flood_of_beginnings, GONE | BROKEN,
          is_heavy=True),
    )  # fmt: skip


def _over_tcp(listen: Listen[LineQuestion]) -> _Start:
    return lambda lie: liar.started(lambda: listen, lie)


def _on_a_port(listen: Listen[LineQuestion]) -> _Start:
    def start(lie: Lie[LineQuestion]) -> _Opened:
        return lambda _: PortLiar(listen, lie).serve()

    return start


def _protocol(label: str, framing: str, way: _Start, *, has_end: bool) -> Protocol:
    limits = {"timeout": "150 ms", "connect_timeout": "1 s", "retry_refused": "1 s"}
    return Protocol(
        name="modbus",
        label=label,
        kind=ModbusKind,
        settings={"unit": UNIT, "framing": framing, "limits": limits},
        tags=TAGS,
        behaviours=_behaviours(way, has_end=has_end),
    )


MODBUS_RTU_OVER_TCP = _protocol("Modbus RTU over TCP", "rtu", _over_tcp(_listen_rtu), has_end=True)
MODBUS_ASCII_OVER_TCP = _protocol("Modbus ASCII over TCP", "ascii", _over_tcp(_listen_ascii), has_end=True)
MODBUS_RTU_ON_A_LINE = _protocol("Modbus RTU on a serial line", "rtu", _on_a_port(_listen_rtu), has_end=False)
LINES = (MODBUS_RTU_OVER_TCP, MODBUS_ASCII_OVER_TCP, MODBUS_RTU_ON_A_LINE)
