"""A Logix controller whose answers a hostile peer changes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from drivers.ethernetip.simulator import REAL, UDINT, Controller
from drivers.ethernetip.simulator.connections import ConnectionTable
from drivers.ethernetip.simulator.encapsulation import HEADER, Encapsulation, SessionClosed
from drivers.ethernetip.simulator.router import Router
from tests.support.hostile.behaviour import HostileTag
from tests.support.hostile.liar import Listen
from tests.support.hostile.truth import Truth, is_always, is_moment_of, moment

REGISTER, SEND_RR, SEND_UNIT = 0x65, 0x6F, 0x70
_CIP_AT = {SEND_RR: 40, SEND_UNIT: 46}  # After header, interface, time-out and items.
_CONNECTION_AT, _SEQUENCE_AT = 36, 44

_PLAIN, _ELEMENTS, _MEMBERS = 6, 4, ("A", "B", "C", "D")
ADDRESSES = (
    *(f"T{number}" for number in range(_PLAIN)),
    *(f"Row[{number}]" for number in range(_ELEMENTS)),
    *(f"Motor.{name}" for name in _MEMBERS),
)
TEXT_CHARACTERS = 200
STRANGE_NUMBERS = (float("nan"), float("inf"), float("-inf"), -0.0, 1e-45)


def _tag(address: str, kind: str, truth: Truth, **more: object) -> HostileTag:
    return HostileTag(settings={"name": address, "address": address, "type": kind, **more}, truth=truth)


TAGS = tuple(_tag(address, "UDINT", is_moment_of(number)) for number, address in enumerate(ADDRESSES))
LONG_TAGS = (TAGS[0], _tag("Label", "STRING", is_moment_of(20), length=TEXT_CHARACTERS))
STRANGE_TAGS = tuple(
    _tag(f"Strange{number}", "REAL", is_always(value if abs(value) != 1e-45 else struct.unpack("<f", b"\1\0\0\0")[0]))
    for number, value in enumerate(STRANGE_NUMBERS)
)  # fmt: skip


def controller() -> Controller:
    """A controller with all the tags; every UDINT changes with time."""
    plc = Controller("Hostile")
    plc.tag("Row", UDINT[_ELEMENTS])
    plc.tag("Motor", plc.structure("Motor", dict.fromkeys(_MEMBERS, UDINT)))
    for number, address in enumerate(ADDRESSES):
        if number < _PLAIN:
            plc.tag(address, UDINT)
        plc[address] = _now(number)
    plc.tag("Label", plc.string(f"STRING{TEXT_CHARACTERS}", TEXT_CHARACTERS), lambda _: str(moment(20)))
    for number, value in enumerate(STRANGE_NUMBERS):
        plc.tag(f"Strange{number}", REAL, value)
    return plc


def _now(number: int) -> object:
    return lambda _: moment(number)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of a client, and the right answer at the time it arrived."""

    asked: bytes
    answer: bytes

    @property
    def command(self) -> int:
        """The command of the encapsulation."""
        return int.from_bytes(self.asked[:2], "little")

    @property
    def question(self) -> bytes:
        """The CIP request in it; empty where there is none."""
        return self.asked[_CIP_AT[self.command] :] if self.command in _CIP_AT else b""

    @property
    def service(self) -> int:
        """The service of the request; 0 where there is no request."""
        return self.question[0] if self.question else 0

    @property
    def class_id(self) -> int:
        """The class of the object in the request; 0 for a tag."""
        path = self.question[2 : 2 + 2 * self.question[1]] if self.question else b""
        at = path.find(b"\x20") if path[:1] == b"\x20" else -1
        return path[at + 1] if at >= 0 else 0

    @property
    def reply(self) -> bytes:
        """The CIP reply in the answer."""
        return self.answer[_CIP_AT[self.command] :]

    def with_reply(self, reply: bytes) -> bytes:
        """The answer with another CIP reply, and matching lengths."""
        at = _CIP_AT[self.command]
        head = bytearray(self.answer[:at])
        item_bytes = len(reply) + (2 if self.command == SEND_UNIT else 0)
        struct.pack_into("<H", head, at - (4 if self.command == SEND_UNIT else 2), item_bytes)
        struct.pack_into("<H", head, 2, at - HEADER.size + len(reply))
        return bytes(head) + reply

    def header(
        self, *, command: int | None = None, length: int | None = None, session: int | None = None,
        status: int | None = None, context: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """The right answer with these fields of its header replaced."""
        c, n, s, t, x, o = HEADER.unpack_from(self.answer)
        return HEADER.pack(
            c if command is None else command, n if length is None else length, s if session is None else session,
            t if status is None else status, x if context is None else context, o,
        ) + self.answer[HEADER.size :]  # fmt: skip

    @property
    def length(self) -> int:
        """The right length in the header."""
        return len(self.answer) - HEADER.size

    def patched(self, at: int, data: bytes) -> bytes:
        """The right answer with the bytes at one offset replaced."""
        return self.answer[:at] + data + self.answer[at + len(data) :]

    def on_connection(self, shift: int) -> bytes:
        """The right answer, with another connection's id."""
        (number,) = struct.unpack_from("<I", self.answer, _CONNECTION_AT)
        return self.patched(_CONNECTION_AT, struct.pack("<I", (number + shift) & 0xFFFFFFFF))

    def with_sequence(self, shift: int) -> bytes:
        """The right answer, with another sequence count."""
        (count,) = struct.unpack_from("<H", self.answer, _SEQUENCE_AT)
        return self.patched(_SEQUENCE_AT, struct.pack("<H", (count + shift) & 0xFFFF))


def listening() -> Listen[Packet]:
    """A listener with a new controller."""
    plc = controller()
    return partial(_listen, plc, ConnectionTable(plc), Router(plc))


async def _listen(
    plc: Controller, table: ConnectionTable, router: Router, reader: asyncio.StreamReader
) -> AsyncIterator[Packet]:
    encapsulation = Encapsulation(plc, table, router, ("127.0.0.1", 0))
    try:
        while True:
            head = await reader.readexactly(HEADER.size)
            packet = head + await reader.readexactly(int.from_bytes(head[2:4], "little"))
            yield Packet(packet, encapsulation.answer(packet) or b"")
    except SessionClosed:
        return
    finally:
        encapsulation.connections.close()
