"""Devices with Modbus TCP that are touchy about connections, and about the question what they are."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from drivers.modbus.codec import READ_DEVICE_IDENTIFICATION
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from tests.support.field.case import FieldCase

BLOCKS = (0, 200, 400, 600)
"""First registers of four requests."""
VALUES = {f"t{first}": first + 7 for first in BLOCKS}


class Asked(Enum):
    """What a device does when it is asked what it is."""

    ANSWERS = "it says what it is"
    IGNORES = "it does not answer that"
    BARE = "it answers with the function code and nothing else"
    DEAF = "it answers nothing more on this connection"
    CLOSES = "it closes the connection"


class TouchyDevice(SimulatedDevice):
    """A unit with a value at the beginning of each of the blocks.

    Attributes:
        functions: the function codes of all requests, in their order.
        accepted: connections so far.
        closes_at: it closes the connection when this register is asked for first, and does not answer.
    """

    def __init__(
        self, *, asked: Asked = Asked.ANSWERS, quiet_s: float = 0.0, idle_s: float | None = None,
        answers: int | None = None, is_reset: bool = False,
    ) -> None:  # fmt: skip
        """`quiet_s`: deaf on a connection on which it is asked earlier. It closes, or resets, a connection that is idle
        for `idle_s`, or after so many `answers`."""
        super().__init__({1: SimulatedUnit([Signal(f"holding {at}", "uint16", steady(at + 7)) for at in BLOCKS])})
        self.functions: list[int] = []
        self.accepted = 0
        self.closes_at: int | None = None
        self._asked, self._quiet_s, self._idle_s, self._answers = asked, quiet_s, idle_s, answers
        self._is_reset = is_reset

    def settings(self, every: str = "500 ms") -> dict[str, Any]:
        """The device in a configuration."""
        tags = [{"name": f"t{first}", "address": f"holding {first}", "type": "uint16"} for first in BLOCKS]
        return {
            "driver": "modbus", "host": "127.0.0.1", "port": self.port, "scan_groups": [{"every": every, "tags": tags}],
        }  # fmt: skip

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        is_deaf, answered, began_s = False, 0, loop.time()
        try:
            while self._answers is None or answered < self._answers:
                async with asyncio.timeout(self._idle_s):
                    transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                self.functions.append(pdu[0])
                if self.closes_at is not None and pdu[1:3] == self.closes_at.to_bytes(2):
                    break
                is_deaf |= loop.time() - began_s < self._quiet_s
                answer = self._answer(unit, pdu) or b""
                if pdu[0] == READ_DEVICE_IDENTIFICATION:
                    if self._asked is Asked.CLOSES:
                        break
                    answer = {Asked.ANSWERS: answer, Asked.BARE: pdu[:1]}.get(self._asked, b"")
                    is_deaf |= self._asked is Asked.DEAF
                if answer and not is_deaf:
                    writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
                    answered += 1
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if self._is_reset else writer.close()


def started(
    every: str = "500 ms", **behaviour: Any
) -> Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Starts a touchy device."""

    @asynccontextmanager
    async def start(_: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with TouchyDevice(**behaviour) as device:
            yield device.settings(every)

    return start


CASES = (
    FieldCase(
        id="modbus-identity-is-bare",
        device="A device that answers function 43 (what it is) with the function code and nothing else",
        does="Reads first and asks afterwards, reports the answer, and does not ask that again.",
        start=started(asked=Asked.BARE),
        values=VALUES,
        helps="`ask_identity: never`",
    ),
    FieldCase(
        id="modbus-deaf-after-identity",
        device="A device that is deaf on the connection after function 43",
        does="Reads on over a new connection in the same scan, and does not ask that again.",
        start=started(asked=Asked.DEAF),
        values=VALUES,
        helps="`ask_identity: never`",
    ),
    FieldCase(
        id="modbus-closes-after-identity",
        device="A device that closes the connection on function 43",
        does="Reads on over a new connection in the same scan, and does not ask that again.",
        start=started(asked=Asked.CLOSES),
        values=VALUES,
        helps="`ask_identity: never`",
    ),
    FieldCase(
        id="modbus-identity-is-ignored",
        device="A device that does not answer function 43",
        does="Reads first and asks afterwards, and does not ask that again.",
        start=started(asked=Asked.IGNORES),
        values=VALUES,
        helps="`ask_identity: never`",
    ),
    FieldCase(
        id="modbus-wants-to-be-left-alone",
        device="An inverter that stays deaf on a connection on which it is asked within 2 s",
        does="Says that it never answered, and which setting leaves it alone after the connect.",
        start=started(quiet_s=2.0),
        values=VALUES,
        needs={"limits": {"connect_delay": "3 s"}},
        says="limits.connect_delay",
    ),
    FieldCase(
        id="modbus-closes-when-idle",
        device="A device that closes a connection which is idle for 2 s, scanned every 5 s",
        does="Connects and reads in the same scan; no outage is on record.",
        start=started("5 s", idle_s=2.0),
        values=VALUES,
    ),
    FieldCase(
        id="modbus-resets-when-idle",
        device="A device that resets a connection which is idle for 2 s, scanned every 5 s",
        does="Connects and reads in the same scan; no outage is on record.",
        start=started("5 s", idle_s=2.0, is_reset=True),
        values=VALUES,
    ),
    FieldCase(
        id="modbus-closes-after-answers",
        device="A device that closes every connection after three answers, read by four requests a scan",
        does="Asks what is left on a new connection in the same scan; no outage is on record.",
        start=started(answers=3),
        values=VALUES,
    ),
)
