"""Shared by the tables of hostile OPC UA servers: tags, outcomes, and named lies."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.behaviour import Behaviour, HostileTag, Outcome
from tests.support.hostile.liar import Greet, Lie, Writer
from tests.support.hostile.opcua_request import Question, at
from tests.support.hostile.opcua_server import FIRST_MOMENT, MOMENTS, OTHER_URI, URI
from tests.support.hostile.opcua_server import started as liar_started
from tests.support.hostile.opcua_wire import data_value
from tests.support.hostile.truth import is_always, is_moment_of

GOOD, PARTLY, BAD = Outcome.GOOD, Outcome.PARTLY, Outcome.BAD
GONE, REFUSED, BROKEN = Outcome.UNREACHABLE, Outcome.REFUSED, Outcome.VIOLATION
MOST = 2**31 - 1
READS = 3
"""Requests of a scan."""

TAGS = tuple(
    HostileTag(
        settings={"name": f"t{number}", "address": f"nsu={URI};i={FIRST_MOMENT + number}", "type": "uint32"},
        truth=is_moment_of(number),
    )
    for number in range(MOMENTS)
)
_STEADY = {
    2000: ("float64", wire.double(float("nan")), float("nan")),
    2001: ("float64", wire.double(float("inf")), float("inf")),
    2002: ("float64", wire.double(float("-inf")), float("-inf")),
    2003: ("float64", wire.double(5e-324), 5e-324),
    2004: ("float32", b"\x0a" + struct.pack("<I", 0x7FA00001), float("nan")),
    2005: ("text", b"\x0c" + wire.text("R-17 µ"), "R-17 µ"),
    2006: ("text", b"\x0c" + wire.text(None), ""),
}
"""Tags of constant value, by node: type, Variant and value."""


def steady(*nodes: int) -> tuple[HostileTag, ...]:
    """Tags of constant value."""
    return tuple(
        HostileTag(
            settings={"name": f"s{node}", "address": f"nsu={URI};i={node}", "type": _STEADY[node][0]},
            truth=is_always(_STEADY[node][2]),
        )
        for node in nodes
    )


def values(node: int) -> bytes | None:
    """The DataValue of a tag of constant value."""
    return data_value(_STEADY[node][1]) if node in _STEADY else None


def behaviour(
    name: str, text: str, lie: Lie[Question], *expected: Outcome, greet: Greet | None = None,
    tags: tuple[HostileTag, ...] = (), uris: tuple[tuple[str, ...], ...] = ((OTHER_URI, URI),), is_heavy: bool = False,
    is_worst: bool = False,
) -> Behaviour:  # fmt: skip
    """A behaviour without security; `uris` are its namespaces from session to session."""
    return Behaviour(
        id=name, text=text, start=liar_started(lie, greet, uris=uris, values=values), expected=expected, tags=tags,
        is_heavy=is_heavy, is_worst=is_worst,
    )  # fmt: skip


def honest(asked: Question) -> bytes:
    """The right answer."""
    return asked.answer


def pouring(make: Callable[[Question], bytes]) -> Lie[Question]:
    """Sends this without end."""

    async def lie(asked: list[Question], writer: Writer) -> None:
        while not writer.transport.is_closing():
            writer.write(b"".join(make(asked[-1]) for _ in range(20)))
            await writer.drain()
            await asyncio.sleep(0)

    return lie


def every_variant(value: bytes) -> Lie[Question]:
    """Has this Variant for every value."""
    return at("Read", lambda q: q.each(lambda _: data_value(value)))
