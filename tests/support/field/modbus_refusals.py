"""Modbus devices that do not answer all they are asked: limited, with holes, busy, or not started yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.modbus.address import Table
from drivers.modbus.simulator import SimulatedDevice, SimulatedUnit
from edge.model import StatusCode
from tests.support.field.case import FieldCase

SILENT = -1
SHORT = -2
CLOSE = -3
"""In place of an exception code: no answer, an answer without its last register, and the end of the connection."""
Refuse = Callable[[Table, int, int], int]
"""What a device does about a request for so many registers from the first on: 0, an exception code or one of above."""


class RefusingDevice(SimulatedDevice):
    """Holding and input register i have the value i, and coil i is on where i is divisible by 3.

    Attributes:
        asked: (first, count) of each request.
    """

    def __init__(self, refuse: Refuse) -> None:
        super().__init__({1: SimulatedUnit()})
        self.refuse = refuse
        self.asked: list[tuple[int, int]] = []

    def _read(self, unit: SimulatedUnit, table: Table, first: int, count: int) -> bytes:
        self.asked.append((first, count))
        outcome = self.refuse(table, first, count)
        if outcome == CLOSE:
            raise ConnectionAbortedError
        if outcome == SILENT:
            return b""
        if outcome > 0:
            return bytes((table.function | 0x80, outcome))
        if table.is_bits:
            bits = sum((i % 3 == 0) << i - first for i in range(first, first + count))
            data = bits.to_bytes((count + 7) // 8, "little")
        else:
            data = b"".join(i.to_bytes(2, "big") for i in range(first, first + count))
        data = data[:-2] if outcome == SHORT else data
        return bytes((table.function, len(data))) + data

    def _answer(self, unit_number: int, pdu: bytes) -> bytes | None:
        return super()._answer(unit_number, pdu) or None


def at_most(limit: int, outcome: int) -> Refuse:
    """A device that answers at most so many at once."""
    return lambda table, first, count: outcome if count > limit else 0


def without(addresses: Sequence[int], outcome: int) -> Refuse:
    """A device that does not have these addresses."""
    return lambda table, first, count: outcome if any(first <= i < first + count for i in addresses) else 0


def one_object(table: Table, first: int, count: int) -> int:
    """A device whose objects of one and two registers, in turn, are read one by one."""
    return 0 if (first % 3, count) in ((0, 1), (1, 2)) else 2


def without_inputs(table: Table, first: int, count: int) -> int:
    """A device that ignores the function for input registers."""
    return SILENT if table is Table.INPUT else 0


def busy_now_and_then() -> Refuse:
    """A device that is busy at every second request."""
    asked = 0

    def refuse(table: Table, first: int, count: int) -> int:
        nonlocal asked
        asked += 1
        return 6 * (asked % 2)

    return refuse


def registers(addresses: Sequence[int], table: str = "holding") -> list[dict[str, Any]]:
    """Tags of one register."""
    return [{"name": f"{table}-{i}", "address": f"{table} {i}", "type": "uint16"} for i in addresses]


def case(
    name: str, device: str, does: str, refuse: Callable[[], Refuse], tags: Sequence[Mapping[str, Any]],
    refused: Mapping[str, StatusCode] | None = None, helps: str = "",
) -> FieldCase:  # fmt: skip
    """A case of a device that refuses something."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with RefusingDevice(refuse()) as served:
            yield {
                "driver": "modbus", "host": "127.0.0.1", "port": served.port,
                "scan_groups": [{"every": "1 s", "tags": list(tags)}],
            }  # fmt: skip

    opened: Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]] = start
    values = {tag["name"]: _value(tag) for tag in tags if tag["name"] not in (refused or {})}
    return FieldCase(
        id=f"modbus-{name}", device=device, does=does, start=opened, values=values, refused=refused or {}, helps=helps
    )


def _value(tag: Mapping[str, Any]) -> int:
    first = int(tag["address"].split()[1])
    return first if tag["type"] == "uint16" else first << 16 | first + 1


OBJECTS = [
    {"name": f"object-{i}", "address": f"holding {i}", "type": "uint32" if i % 3 else "uint16"}
    for i in range(150)
    if i % 3 < 2
]
CASES = (
    case(
        "ten-registers", "A device that answers at most 10 registers at once, and refuses more with exception 3",
        "It is asked for less until it answers; the limit found is reported and kept until Tidegate stops.",
        lambda: at_most(10, 3), registers(range(100)), helps="`limits.registers`",
    ),
    case(
        "silent-above-a-limit", "A device that does not answer a request for more than 32 registers",
        "Before it is given up, it is asked for one tag; then for less, until it answers. The limit is reported.",
        lambda: at_most(32, SILENT), [*registers(range(125)), *registers(range(300, 425))], helps="`limits.registers`",
    ),
    case(
        "silent-above-a-limit-with-holes", "The same with a limit of 16, its tags scattered",
        "The same; that a limit and not a hole is the reason, shows a request across the place.",
        lambda: at_most(16, SILENT), registers(range(0, 124, 3)), helps="`limits.registers`, `limits.hole: 0`",
    ),
    case(
        "closes-above-a-limit", "A device that closes the connection at a request for more than 40 registers",
        "Where it answers one tag on a new connection, it is asked for less in the same scan.",
        lambda: at_most(40, CLOSE), registers(range(125)), helps="`limits.registers`",
    ),
    case(
        "one-object-a-request", "A device that allows one object in a request",
        "It is asked for less until it answers each object.",
        lambda: one_object, OBJECTS, helps="`limits.registers`",
    ),
    case(
        "hole", "A device that refuses a request which touches an address between the tags that it does not have",
        "The request is parted there.",
        lambda: without([20], 2), registers([*range(20), *range(22, 60)]), helps="`limits.forbidden`",
    ),
    case(
        "silent-hole", "The same, with silence instead of an exception",
        "The same, after a timeout for each half that is asked in the search.",
        lambda: without([20], SILENT), registers([*range(20), *range(22, 60)]), helps="`limits.forbidden`",
    ),
    case(
        "short-at-a-hole", "A device that answers with too few registers where one is missing",
        "A short answer is refused, and the request is parted as after an exception.",
        lambda: without([20], SHORT), registers([*range(20), *range(22, 60)]), helps="`limits.forbidden`",
    ),
    case(
        "absent-is-silent", "A device that does not answer for an address that it does not have",
        "That tag is BAD_NO_COMMUNICATION, and is asked for now and then; the others are read.",
        lambda: without([33], SILENT), registers(range(60)),
        {"holding-33": StatusCode.BAD_NO_COMMUNICATION},
    ),
    case(
        "absent-is-a-failure", "A device that answers exception 4 for an address that it does not have",
        "That tag is BAD_DEVICE_FAILURE, and is asked for now and then; the others are read.",
        lambda: without([33], 4), registers(range(60)),
        {"holding-33": StatusCode.BAD_DEVICE_FAILURE},
    ),
    case(
        "function-is-silent", "A device that does not answer a function at all",
        "Its tags are BAD_NO_COMMUNICATION, of many only after some scans; the others are read meanwhile.",
        lambda: without_inputs, [*registers([0], "input"), *registers(range(40))],
        {"input-0": StatusCode.BAD_NO_COMMUNICATION},
    ),
    case(
        "busy", "A device that is busy (exception 6) at every second request",
        "It is asked once more in the same scan, after a pause.",
        busy_now_and_then, registers(range(20)), helps="`limits.retries`",
    ),
)  # fmt: skip
