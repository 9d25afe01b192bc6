"""OPC UA servers whose responses to a Read are wrong, or hold no values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.liar import Lie, Writer
from tests.support.hostile.opcua_common import (
    BAD,
    BROKEN,
    GONE,
    GOOD,
    MOST,
    PARTLY,
    READS,
    REFUSED,
    behaviour,
    honest,
    steady,
)
from tests.support.hostile.opcua_common import (
    every_variant as variants,
)
from tests.support.hostile.opcua_request import Question, act, at
from tests.support.hostile.opcua_server import MOMENTS
from tests.support.hostile.opcua_wire import data_value, u32

STATUSES = (0x00000000, 0x0000FFFF, 0x40000C80, 0x4094FFFF, 0x80FF0480, 0xFFFFFFFF)
"""Of each tag of `statuses`: every severity, with undefined info bits."""
SOURCE_TIMES = (0, -1, 1, 2**63 - 1, -(2**63), 2_650_467_743_990_000_000)
"""Of each tag of `source-times`, in 100 ns since 1601: none, before it, then, the last, the first,
and the year 9999."""


async def _type_changes(asked: list[Question], writer: Writer) -> None:
    is_new = len(asked) > READS
    writer.write(asked[-1].each(lambda _: data_value(wire.double(0.0))) if is_new else asked[-1].answer)


async def _session_invalid_now_and_then(asked: list[Question], writer: Writer) -> None:
    is_lost = len(asked) % (2 * READS) == 0
    writer.write(asked[-1].fault(_BAD_SESSION_ID_INVALID) if is_lost else asked[-1].answer)


def _every_code() -> Iterator[int]:
    for number in count(1):
        yield 0x80000000 | (number % 0x200) << 16


def _faults() -> Lie[Question]:
    codes = _every_code()
    return at("Read", lambda q: q.fault(next(codes)))


def _with(change: Callable[[int, bytes], bytes]) -> Lie[Question]:
    """Has values that `change` makes of each tag's number and Variant, in each scan."""
    tags = count()
    return at("Read", lambda q: q.read([change(next(tags) % MOMENTS, value[1:6]) for value in q.values]))


_BAD_SESSION_ID_INVALID, _BAD_SESSION_CLOSED, _BAD_TOO_MANY_OPERATIONS = 0x80250000, 0x80260000, 0x80100000
_BAD_USER_ACCESS_DENIED = 0x801F0000
_b = behaviour
ANSWERS = (
    _b("wrong-handle", "another request handle", at("Read", lambda q: q.read(handle=q.handle + 1)), BROKEN),
    _b("wrong-service", "the answer of another service", at("Read", lambda q: q.read(service=530)), BROKEN),
    _b("service-in-a-text", "a type that is a text",
       at("Read", lambda q: q.frame(b"\3\0\0" + wire.text("Read") + q.body()[4:])), BROKEN),
    _b("faults", "refuses with every code there could be", _faults(), REFUSED | GONE),
    _b("fault-without-a-fault", "refuses with Good", at("Read", lambda q: q.fault(0)), BROKEN),
    _b("uncertain-service", "answers with an uncertain result", at("Read", lambda q: q.fault(0x40000000)),
       REFUSED | BROKEN),
    _b("too-many-operations", "finds every request too large",
       at("Read", lambda q: q.fault(_BAD_TOO_MANY_OPERATIONS)), REFUSED),
    _b("good-with-bits", "a good result with odd bits", at("Read", lambda q: q.read(result=0x0001FFFF)),
       GOOD | REFUSED),
    _b("session-invalid", "forgets the session now and then", act("Read", _session_invalid_now_and_then), GOOD | GONE),
    _b("session-closed", "closes the session when it is active",
       at("ReadServer", lambda q: q.fault(_BAD_SESSION_CLOSED)), GONE),
    _b("not-let-in", "lets nobody in", at("ActivateSession", lambda q: q.fault(_BAD_USER_ACCESS_DENIED)), REFUSED),
    _b("too-few-values", "has too few values", at("Read", lambda q: q.read(q.values[:-1])), BROKEN),
    _b("too-many-values", "has too many values", at("Read", lambda q: q.read([*q.values, q.values[0]])), BROKEN),
    _b("no-values", "has no values", at("Read", lambda q: q.read([])), BROKEN),
    _b("values-null", "minus one value", at("Read", lambda q: q.read([], count=-1)), BROKEN),
    _b("values-minus-2", "minus two values", at("Read", lambda q: q.read(count=-2)), BROKEN),
    _b("values-2g", "announces 2^31-1 values", at("Read", lambda q: q.read(count=MOST)), BROKEN),
    _b("diagnostics-2g", "announces 2^31-1 diagnostics", at("Read", lambda q: q.read(tail=u32(MOST))), BROKEN),
    _b("diagnostics-many", "a million diagnostics of nothing",
       at("Read", lambda q: q.read(tail=u32(1_000_000) + bytes(1_000_000))), BROKEN, is_heavy=True),
    _b("strings-many", "250,000 strings in the header",
       at("Read", lambda q: q.read(strings=u32(250_000) + bytes(1_000_000))),
       BROKEN, is_heavy=True),
    _b("strings-2g", "announces 2^31-1 strings", at("Read", lambda q: q.read(strings=u32(MOST))), BROKEN),
    _b("tail", "more behind the answer", at("Read", lambda q: q.read(tail=bytes(100))), BROKEN),
    _b("cut-short", "ends early", at("Read", lambda q: q.frame(q.body()[:-9])), BROKEN),
    _b("deep-diagnostics", "diagnostics within diagnostics",
       at("Read", lambda q: q.read(diagnostics=b"\x40" * 20_000 + b"\0")), BROKEN),
    _b("deep-variants", "variants within variants", variants(b"\x18" * 20_000 + b"\0"), BROKEN),
    _b("deep-values", "values within values", variants(b"\x17\1" * 20_000 + b"\0"), BROKEN),
    _b("deep-arrays", "arrays of arrays of variants", variants((b"\x98" + u32(1)) * 5000 + b"\0"), BROKEN),
    _b("extra-header", "a structure in the header of the answer",
       at("Read", lambda q: q.read(more=wire.structure(99, bytes(500)))), GOOD),
    _b("extra-header-lies", "a structure in the header that is longer than the answer",
       at("Read", lambda q: q.read(more=wire.structure(99, b"", MOST))), BROKEN),
)  # fmt: skip

_MATRIX = b"\xc7" + wire.array([u32(5)])
VALUES = (
    _b("dimensions-overflow", "dimensions whose product overflows", variants(_MATRIX + wire.array([u32(65536)] * 2)),
       BAD),
    _b("dimensions-2g", "dimensions of 2^31-1 each", variants(_MATRIX + wire.array([u32(MOST)] * 3)), BAD),
    _b("dimensions-negative", "negative dimensions", variants(_MATRIX + wire.array([u32(-1), u32(-1)])), BAD),
    _b("dimensions-zero", "dimensions of 0", variants(_MATRIX + wire.array([u32(0), u32(0)])), BAD),
    _b("dimensions-announced", "2^31-1 dimensions", variants(_MATRIX + u32(MOST)), BROKEN),
    _b("dimensions-of-a-scalar", "dimensions of what is no array", variants(b"\x47" + u32(5, 1, 1)), BROKEN),
    _b("array-2g", "an array of 2^31-1", variants(b"\x87" + u32(MOST)), BROKEN),
    _b("array-minus-2", "an array of -2", variants(b"\x87" + u32(-2)), BROKEN),
    _b("array-of-nothings", "an array of 2^31-1 nothings", variants(b"\x80" + u32(MOST)), BROKEN),
    _b("array-where-one-was", "an array where a number was", variants(b"\x87" + wire.array([u32(1), u32(2)])), BAD),
    _b("array-large", "1 MB of numbers where one was", at("Read", lambda q: q.read(
        [data_value(b"\x8b" + u32(125_000) + bytes(1_000_000)), *q.values[1:]])), PARTLY, is_heavy=True),
    _b("texts-large", "1 MB of texts where a number was", at("Read", lambda q: q.read(
        [data_value(b"\x8c" + u32(50_000) + wire.text("x" * 16) * 50_000), *q.values[1:]])), BROKEN, is_heavy=True),
    _b("text-minus-2", "a text of -2 bytes", variants(b"\x0c" + u32(-2)), BROKEN),
    _b("text-2g", "a text of 2^31-1 bytes", variants(b"\x0c" + u32(MOST)), BROKEN),
    _b("structure-lies", "a structure longer than the answer", variants(b"\x16" + wire.structure(99, b"", MOST)),
       BROKEN),
    _b("structure-minus-2", "a structure of -2 bytes", variants(b"\x16" + wire.structure(99, b"", -2)), BROKEN),
    _b("structure-encoding", "a structure encoded in an unknown way", variants(b"\x16" + wire.node_id(99) + b"\7"),
       BROKEN),
    _b("structure-where-one-was", "a structure where a number was", variants(b"\x16" + wire.structure(99, bytes(8))),
       BAD),
    _b("type-26", "a built-in type to come", variants(b"\x1a" + wire.text("x")), BAD),
    _b("type-40", "a built-in type that cannot be", variants(b"\x28" + bytes(8)), BROKEN),
    _b("mask-reserved", "reserved bits in the mask of a value", at("Read",
       lambda q: q.each(lambda _: b"\xc1" + wire.uint32(1))), BROKEN),
    _b("no-value", "values without a value", at("Read", lambda q: q.each(lambda _: b"\0")), BAD),
    _b("type-changes", "another type overnight", act("Read", _type_changes), GOOD, BAD),
    _b("statuses", "every severity, with bits that mean nothing", _with(
        lambda tag, value: data_value(value, status=STATUSES[tag])), PARTLY),
    _b("source-times", "times that cannot be, and values that are right", _with(
        lambda tag, value: data_value(value, source=SOURCE_TIMES[tag])), GOOD),
    _b("picoseconds", "parts of a time that are more than the whole", _with(
        lambda _, value: b"\x35" + value + bytes(8) + b"\xff\xff" + b"\xff\xff"), GOOD),
    _b("not-numbers", "infinities and what is no number, which are values", at("", honest), GOOD,
       tags=steady(2000, 2001, 2002, 2003, 2004)),
    _b("texts", "no text, which is a value", at("", honest), GOOD, tags=steady(2005, 2006)),
    _b("text-not-utf-8", "a text that is none", variants(b"\x0c" + wire.text(b"\xff\xfe\xc0")), BAD, tags=steady(2005)),
    _b("text-long", "a text longer than was agreed", variants(b"\x0c" + wire.text(b"x" * 9000)), BAD,
       tags=steady(2005)),
)  # fmt: skip
