"""Hostile Modbus TCP devices."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from drivers.modbus import ModbusKind
from drivers.modbus.framing import crc16
from tests.support.hostile import liar
from tests.support.hostile.behaviour import Behaviour, HostileTag, Outcome, Protocol
from tests.support.hostile.liar import Greet, Lie, Writer, answer, says
from tests.support.hostile.truth import is_moment_of, moment

BLOCKS = (0, 300, 600)  # Three requests a scan, of ten registers each.
FIRSTS = tuple(block + register for block in BLOCKS for register in range(0, 10, 2))
UNIT = 7
TAGS = tuple(
    HostileTag(
        settings={"name": f"t{first}", "address": f"holding {first}", "type": "uint32"},
        truth=is_moment_of(number),
    )
    for number, first in enumerate(FIRSTS)
)
_READ_HOLDING, _IDENTIFY = 3, 43
_ILLEGAL_FUNCTION = 1


def registers(first: int, count: int) -> bytes:
    """The current registers; those without a tag are zero."""
    held = bytearray(2 * count)
    for number, at in enumerate(FIRSTS):
        if first <= at and at + 2 <= first + count:
            struct.pack_into(">I", held, 2 * (at - first), moment(number))
    return bytes(held)


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and the registers as they were when it came."""

    transaction: int
    unit: int
    function: int
    first: int
    count: int
    data: bytes

    @property
    def answer(self) -> bytes:
        """See `liar.Asked`."""
        return self.frame() if self.function == _READ_HOLDING else self.exception(_ILLEGAL_FUNCTION)

    def frame(
        self,
        *,
        transaction: int | None = None,
        protocol: int = 0,
        length: int | None = None,
        unit: int | None = None,
        function: int | None = None,
        byte_count: int | None = None,
        data: bytes | None = None,
    ) -> bytes:
        """The right answer, except for the arguments."""
        body = self.data if data is None else data
        return struct.pack(
            ">HHHBBB",
            self.transaction if transaction is None else transaction,
            protocol,
            3 + len(body) if length is None else length,
            self.unit if unit is None else unit,
            self.function if function is None else function,
            len(body) if byte_count is None else byte_count,
        ) + body  # fmt: skip

    def exception(self, code: int) -> bytes:
        """A refusal."""
        return struct.pack(">HHHBBB", self.transaction, 0, 3, self.unit, self.function | 0x80, code)


async def listen(reader: asyncio.StreamReader) -> AsyncIterator[Question]:
    """Requests of Modbus TCP."""
    while True:
        transaction, _, length = struct.unpack(">HHH", await reader.readexactly(6))
        body = await reader.readexactly(length)
        first, count = struct.unpack_from(">HH", body, 2) if body[1] == _READ_HOLDING else (0, 0)
        yield Question(transaction, body[0], body[1], first, count, registers(first, count))


# What takes more than a line.


async def _cut_short(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].answer[:15])


async def _flood(asked: list[Question], writer: Writer) -> None:
    stranger = asked[-1].frame(transaction=(asked[-1].transaction + 999) % 65535 + 1)
    await liar.pour(writer, lambda: stranger * 50)


async def _flood_of_copies(asked: list[Question], writer: Writer) -> None:
    await liar.pour(writer, lambda: asked[-1].frame() * 50)


async def _endless_length(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].frame(length=0xFFFF))
    await liar.pour(writer, lambda: bytes(65536))


async def _late_by_one(asked: list[Question], writer: Writer) -> None:
    if len(asked) % 2 == 0:
        return
    if len(asked) > 1:
        writer.write(asked[-2].answer)
    writer.write(asked[-1].answer)


async def _always_the_previous(asked: list[Question], writer: Writer) -> None:
    if len(asked) > 1:
        writer.write(asked[-2].answer)


async def _right_after_wrong(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].frame(unit=9, data=bytes(20)) + asked[-1].frame())


def checksum_of(question: Question) -> bytes:
    """The checksum of a line that careless converters leave behind the answer."""
    return crc16(question.answer[6:])


async def _checksum_apart(asked: list[Question], writer: Writer) -> None:
    writer.write((checksum_of(asked[-2]) if len(asked) > 1 else b"") + asked[-1].answer)


async def _silence_now_and_then(asked: list[Question], writer: Writer) -> None:
    if asked[-1].first != BLOCKS[1]:
        writer.write(asked[-1].answer)


async def _only_short(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].answer if asked[-1].count <= 6 else asked[-1].exception(3))


async def _greet_with_an_answer(writer: Writer) -> None:
    writer.write(struct.pack(">HHHBBB", 1, 0, 23, UNIT, 3, 20) + bytes(20))


async def _greet_with_text(writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")


async def _greet_with_reset(writer: Writer) -> None:
    liar.reset(writer)


async def _honest(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].answer)


GOOD, PARTLY, BAD = Outcome.GOOD, Outcome.PARTLY, Outcome.BAD
GONE, BROKEN = Outcome.UNREACHABLE, Outcome.VIOLATION


def _behaviour(
    name: str, text: str, lie: Lie[Question], *expected: Outcome, greet: Greet | None = None, is_heavy: bool = False,
    is_worst: bool = False,
) -> Behaviour:  # fmt: skip
    start = liar.started(lambda: listen, lie, greet)
    return Behaviour(id=name, text=text, start=start, expected=expected, is_heavy=is_heavy, is_worst=is_worst)


_b = _behaviour
_BEHAVIOURS = (
    _b("closes", "closes after the request", liar.close_at_once, GONE),
    _b("resets", "resets within an answer", liar.reset_within, GONE, is_worst=True),
    _b("resets-at-once", "resets every connection that it accepts", liar.say_nothing, GONE, greet=_greet_with_reset),
    _b("silence", "accepts and says nothing", liar.say_nothing, GONE, is_worst=True),
    _b("byte-by-byte", "sends one byte per write", liar.one_byte_per_write, GOOD, is_worst=True),
    _b("cut-short", "begins answers and never ends them", _cut_short, GONE | BROKEN),
    _b("two-answers", "answers twice", answer(lambda q: q.frame() * 2), GOOD | PARTLY | BROKEN),
    _b("other-unit", "answers for another unit", answer(lambda q: q.frame(unit=8)), BAD),
    _b("unit-0", "answers for unit 0", answer(lambda q: q.frame(unit=0)), BAD),
    _b("other-function", "answers another function", answer(lambda q: q.frame(function=4)), BAD),
    _b("writing-function", "answers a writing function", answer(lambda q: q.frame(function=16)), BAD),
    _b("too-few-registers", "has too few registers", answer(lambda q: q.frame(data=q.data[:-2])), BAD),
    _b("too-many-registers", "has too many registers", answer(lambda q: q.frame(data=q.data + bytes(2))), BAD),
    _b("half-a-register", "has half a register", answer(lambda q: q.frame(data=q.data[:-1])), BAD),
    _b("no-registers", "has no registers", answer(lambda q: q.frame(data=b"")), BAD),
    _b("byte-count-small", "byte count too small", answer(lambda q: q.frame(byte_count=18)), BAD),
    _b("byte-count-large", "byte count too large", answer(lambda q: q.frame(byte_count=250)), BAD),
    _b("byte-count-zero", "byte count zero", answer(lambda q: q.frame(byte_count=0)), BAD),
    _b("transaction-0", "transaction id 0", answer(lambda q: q.frame(transaction=0)), BAD),
    _b("transaction-unknown", "a transaction id never asked",
       answer(lambda q: q.frame(transaction=(q.transaction + 50) % 65535 + 1)), BAD),
    _b("transaction-swapped", "transaction id with swapped bytes",
       answer(lambda q: q.frame(transaction=int.from_bytes(q.transaction.to_bytes(2, "little")) ^ 0x4000)), BAD),
    _b("protocol-1", "protocol identifier 1", answer(lambda q: q.frame(protocol=1)), BROKEN),
    _b("length-0", "length 0", answer(lambda q: q.frame(length=0)), BAD),
    _b("length-2", "length 2", answer(lambda q: q.frame(length=2)), BAD),
    _b("length-255", "length 255", answer(lambda q: q.frame(length=255)), BAD),
    _b("length-65535", "length 65535, and data without end", _endless_length, BROKEN, is_heavy=True, is_worst=True),
    _b("length-short", "length shorter than the data",
       answer(lambda q: q.frame(length=13) if q.function == _READ_HOLDING else q.answer), BAD),
    _b("length-large", "length larger than the data", answer(lambda q: q.frame(length=29)), BAD),
    _b("checksum-after", "a checksum behind the answer", answer(lambda q: q.answer + checksum_of(q)), GOOD | BROKEN),
    _b("checksum-apart", "a checksum that comes with the next answer", _checksum_apart, GOOD | BROKEN),
    _b("padding-after", "zeros behind the answer", answer(lambda q: q.answer + bytes(30)), GOOD | BROKEN),
    _b("garbage", "garbage", says(bytes(range(64, 128))), BROKEN, is_worst=True),
    _b("web-page", "a web page", says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), BROKEN),
    _b("zeros", "zeros", says(bytes(64)), BROKEN),
    _b("echo", "sends the request back", answer(lambda q: q.frame(length=6, byte_count=0, data=b"\0\0\12")), BAD),
    _b("illegal-address", "illegal address for all", answer(lambda q: q.exception(2)), BAD),
    _b("device-failure", "device failure for all", answer(lambda q: q.exception(4)), BAD),
    _b("busy", "busy for ever", answer(lambda q: q.exception(6)), BAD),
    _b("exception-0", "exception 0", answer(lambda q: q.exception(0)), BAD),
    _b("exception-255", "exception 255", answer(lambda q: q.exception(255)), BAD),
    _b("exception-other", "an exception to another function",
       answer(lambda q: q.frame(function=0x84, data=b"", byte_count=2)), BAD),
    _b("exception-long", "an exception with more behind it",
       answer(lambda q: q.frame(function=0x83, data=bytes(20))), BAD),
    _b("gateway", "a gateway that cannot reach it", answer(lambda q: q.exception(11)), GONE),
    _b("flood", "answers to what was never asked, without end", _flood, BROKEN, is_heavy=True, is_worst=True),
    _b("flood-of-copies", "the right answer, without end", _flood_of_copies, GOOD | PARTLY | BROKEN, is_heavy=True),
    _b("right-after-wrong", "a wrong answer, then the right one", _right_after_wrong, BAD, BAD, BAD | BROKEN),
    _b("late", "answers late, before the answer to the next request", _late_by_one, GOOD | PARTLY | BAD | GONE),
    _b("always-the-previous", "answers the request before", _always_the_previous, PARTLY | BAD | GONE | BROKEN),
    _b("silence-now-and-then", "answers two requests of three", _silence_now_and_then, PARTLY),
    _b("only-short", "refuses long requests", _only_short, GOOD),
    _b("greets-with-an-answer", "an answer before any request", _honest, GOOD | PARTLY | BAD, GOOD,
       greet=_greet_with_an_answer),
    _b("greets-with-text", "another service on the port", liar.say_nothing, GONE | BROKEN, greet=_greet_with_text),
)  # fmt: skip

MODBUS_TCP = Protocol(
    name="modbus",
    label="Modbus TCP",
    kind=ModbusKind,
    settings={
        "unit": UNIT,
        "limits": {"timeout": "100 ms", "connect_timeout": "1 s", "retry_refused": "1 s"},
    },
    tags=TAGS,
    behaviours=_BEHAVIOURS,
)
