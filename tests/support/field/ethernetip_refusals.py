"""Controllers of which one part is wrong: at one tag the answer is malformed, the connection ends, or no answer comes.

Each is the simulated controller with a router that treats questions about certain tags in a manner of its own.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator import DINT, INT, REAL, Controller, LogixServer
from drivers.ethernetip.simulator.codes import Service
from drivers.ethernetip.simulator.encapsulation import SessionClosed
from drivers.ethernetip.simulator.router import Router, reply
from edge.model import StatusCode
from tests.support.field.case import FieldCase

Manner = Callable[[bytes, bytes], bytes | None]
"""Makes the answer to a question out of the right one; None for no answer."""

LEVELS, CULPRIT, STRUCTURE = 40, "Level_017", "Motor"


def malformed(question: bytes, answer: bytes) -> bytes:
    """A packet of several answers with a count of its own, or an answer to another service."""
    return (
        answer[:4] + b"\xff\xff" + answer[6:]
        if question[0] == Service.MULTIPLE_SERVICE_PACKET
        else b"\xff" + answer[1:]
    )


def closing(question: bytes, answer: bytes) -> bytes:
    """The end of the connection."""
    raise SessionClosed


def silent(question: bytes, answer: bytes) -> None:
    """No answer."""


def refusing(status: int, *extended: int) -> Manner:
    """A status for the packet as a whole."""
    return lambda question, answer: reply(question[0], status, b"", extended)


def only_several(manner: Manner) -> Manner:
    """The manner for packets of several questions only: what is asked alone is answered."""
    return lambda question, answer: (
        manner(question, answer) if question[0] == Service.MULTIPLE_SERVICE_PACKET else answer
    )


def beyond(answers: int, manner: Manner) -> Manner:
    """The manner for packets of more than so many questions."""
    return lambda question, answer: (
        manner(question, answer)
        if question[0] == Service.MULTIPLE_SERVICE_PACKET and struct.unpack_from("<H", question, 6)[0] > answers
        else answer
    )


class OddRouter(Router):
    """Answers questions that contain certain bytes in a manner of its own, and keeps all questions."""

    def __init__(self, server: LogixServer, manners: Mapping[bytes, Manner]) -> None:
        super().__init__(server.controller)
        self.asked: list[bytes] = []
        self._manners = dict(manners)
        self._is_dropped = False
        server.controller.distort = self._distort

    def answer(self, message: bytes, limit: int) -> bytes:
        """The answer to a request."""
        self.asked.append(message)
        right = super().answer(message, limit)
        for words, manner in self._manners.items():
            if words in message:
                return self.made(manner, message, right)
        return right

    def made(self, manner: Manner, message: bytes, right: bytes) -> bytes:
        """The answer in a manner; where that is none, any, which is not sent."""
        answer = manner(message, right)
        self._is_dropped = answer is None
        return answer or bytes(4)

    def behave(self) -> None:
        """Answer everything as it should be from now on."""
        self._manners.clear()

    def _distort(self, frame: bytes) -> bytes | None:
        is_dropped, self._is_dropped = self._is_dropped, False
        return None if is_dropped else frame


@asynccontextmanager
async def odd_server(plc: Controller, manners: Mapping[bytes, Manner]) -> AsyncIterator[tuple[LogixServer, OddRouter]]:
    """A server of a controller with manners of its own."""
    async with LogixServer(plc) as server:
        server.router = router = OddRouter(server, manners)
        yield server, router


def plant() -> Controller:
    """Forty levels, and a motor with members of several types."""
    plc = Controller("Odd")
    for number in range(LEVELS):
        plc.tag(f"Level_{number:03d}", REAL, number / 4)
    motor = plc.structure("Motor", {"Speed": REAL, "Code": INT, "Total": DINT, "Starts": DINT})
    plc.tag("Motor", motor, {"Speed": 12.5, "Code": 7, "Total": -3, "Starts": 99})
    return plc


LEVEL_VALUES: Mapping[str, float] = {f"Level_{number:03d}": number / 4 for number in range(LEVELS)}
MOTOR_VALUES: Mapping[str, float] = {"Motor.Speed": 12.5, "Motor.Code": 7, "Motor.Total": -3, "Motor.Starts": 99}
VALUES: Mapping[str, float] = {**LEVEL_VALUES, **MOTOR_VALUES}
_TYPES = {"Motor.Code": "INT", "Motor.Total": "DINT", "Motor.Starts": "DINT"}


def tags() -> list[dict[str, Any]]:
    """All tags of the plant."""
    return [{"name": name, "address": name, "type": _TYPES.get(name, "REAL")} for name in VALUES]


@asynccontextmanager
async def _started(_: Path, manners: Mapping[bytes, Manner]) -> AsyncIterator[Mapping[str, Any]]:
    async with odd_server(plant(), manners) as (server, _router):
        yield {
            "driver": "ethernetip", "host": server.host, "port": server.port,
            "scan_groups": [{"every": "500 ms", "tags": tags()}],
        }  # fmt: skip


def _case(
    name: str, device: str, does: str, manners: Mapping[bytes, Manner], refused: Mapping[str, StatusCode]
) -> FieldCase:
    values = {tag: value for tag, value in VALUES.items() if tag not in refused}
    return FieldCase(
        id=f"ethernetip-{name}", device=device, does=does, start=partial(_started, manners=manners), values=values,
        refused=refused,
    )  # fmt: skip


@asynccontextmanager
async def _without_connections(_: Path) -> AsyncIterator[Mapping[str, Any]]:
    plc = plant()
    plc.connections_limit = 0
    async with LogixServer(plc) as server:
        yield {
            "driver": "ethernetip", "host": server.host, "port": server.port,
            "scan_groups": [{"every": "500 ms", "tags": tags()}],
        }  # fmt: skip


_C = CULPRIT.encode()
_MULTIPLE = bytes((Service.MULTIPLE_SERVICE_PACKET, 2, 0x20, 2, 0x24, 1))
_TEMPLATE = bytes((0x20, 0x6C, 0x25))
_BAD = StatusCode.BAD_DEVICE_FAILURE
CASES = (
    _case("malformed-tag", "A controller whose answer to one tag is malformed",
          "Asks for halves of the packet, then for that tag alone, which is BAD with the reason; the others are read "
          "together.",
          {_C: malformed}, {CULPRIT: StatusCode.BAD_DECODING_ERROR}),
    _case("closes-at-a-tag", "A controller that closes the connection when it is asked for one tag",
          "Connects again within the scan and asks for tags alone, leaves that tag out with the reason, and tries it "
          "again after 10 s and ever longer.", {_C: closing}, {CULPRIT: _BAD}),
    _case("silent-at-a-tag", "A controller that does not answer questions about one tag",
          "As above: the others wait for twice `limits.timeout`, once.", {_C: silent}, {CULPRIT: _BAD}),
    _case("packet-refused", "A controller that refuses a whole packet for one tag in it (status 0x1E without answers)",
          "Asks for halves of the packet until only that tag is alone.", {_C: only_several(refusing(0x1E))}, {}),
    _case("packet-too-large", "A controller that refuses packets of many tags (status 0x11, 0x1B or 0x02)",
          "Asks for halves of the packet until they are accepted.", {_MULTIPLE: beyond(6, refusing(0x1B))}, {}),
    _case("template-malformed", "A controller that does not describe a structure",
          "Reads its members one by one, and says why.", {_TEMPLATE: malformed}, {}),
    _case("closes-at-a-template", "A controller that closes the connection when it is asked to describe a structure",
          "Reads its members one by one, and does not ask again.", {_TEMPLATE: closing}, {}),
    _case("closes-at-the-tag-list", "A controller that closes the connection when it is asked to list its tags",
          "Reads members of structures one by one, and does not ask again.",
          {bytes((Service.GET_INSTANCE_ATTRIBUTE_LIST,)) + b"\x02\x20\x6b": closing}, {}),
    FieldCase(
        id="ethernetip-without-connections",
        device="A controller whose connections are all in use",
        does="Is read with unconnected messages, and says why; `messaging: connected` insists on a connection.",
        start=_without_connections,
        values=VALUES,
    ),
)  # fmt: skip
