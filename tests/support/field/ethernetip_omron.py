"""An Omron NJ or NX: the simulated controller with the manners of W506, the manual of its built-in EtherNet/IP port.

- Variables are read by their names (8-4-5), elements by index, several elements from one on by their number.
- For the name of an array comes all of it, of BOOL as bits in words (8-7-4); a single BOOL is followed by whether it is
  forced (8-7-3); a text is a STRING after a length of two bytes.
- It has neither the symbols and templates nor the change counters of a Logix, and no fragments: what does not fit is
  refused. Packets of several services are not in the manual: some versions take them (libplctag, issues 307 and 454).
- It has statuses of its own (8-6-1), with additional ones from 0x8000 on.
- Large connections have up to 1994 bytes (Ignition's driver for it), and there is no backplane.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator import BOOL, DINT, INT, LREAL, REAL, STRING, Controller, Identity, LogixServer
from drivers.ethernetip.simulator.codes import CipError, Class, Service, Status
from drivers.ethernetip.simulator.controller import Personality
from drivers.ethernetip.simulator.paths import Path as CipPath
from drivers.ethernetip.simulator.router import Respond, Router, reply
from drivers.ethernetip.simulator.tags import Tag
from drivers.ethernetip.simulator.types import Array, Atomic, Structure
from edge.model import StatusCode
from tests.support.field.case import FieldCase

OMRON = Personality(
    has_backplane=False, has_programs=False, has_multiple_services=False, has_instance_addressing=False,
    connection_bytes_most=1994,
)  # fmt: skip
PACKED = Personality(has_backplane=False, has_programs=False, has_instance_addressing=False, connection_bytes_most=1994)
_INVALID_PARAMETER, _VENDOR_SPECIFIC = 0x20, 0x1F
_NO_ARRAY, _BEYOND, _NOT_PUBLISHED = 0x8017, 0x8018, 0x8007
_OF_LOGIX = (Class.SYMBOL, Class.TEMPLATE, Class.CHANGES, Class.WALL_CLOCK)
HIDDEN = "NotPublished"
TIME, DATE_AND_TIME_NSEC = Atomic("TIME", 0xDB, "q", 8, 8), Atomic("DATE_AND_TIME_NSEC", 0x0A, "q", 8, 8)
NOW_NS = 1_767_323_045_678_000_000  # 2026-01-02 03:04:05.678 by the clock of the controller.


class OmronRouter(Router):
    """Answers as an NJ or NX does."""

    def _one(self, service: int, path: CipPath, data: bytes) -> Respond:
        if path.class_ is None and service == Service.READ_TAG:
            return self._variable(service, path, data)
        if path.class_ is None or path.class_ in _OF_LOGIX:
            raise CipError(Status.SERVICE_NOT_SUPPORTED)
        return super()._one(service, path, data)

    def _variable(self, service: int, path: CipPath, data: bytes) -> Respond:
        if len(data) != 2:
            raise CipError(Status.NOT_ENOUGH_DATA if len(data) < 2 else Status.TOO_MUCH_DATA)
        (count,) = struct.unpack("<H", data)
        tag = self._controller.scopes[""].tags.get(str(path.steps[0]).lower())
        if tag is None:
            raise CipError(Status.PATH_DESTINATION_UNKNOWN)
        if tag.name == HIDDEN:
            raise CipError(_VENDOR_SPECIFIC, _NOT_PUBLISHED)
        if tag.failure:
            raise CipError(*tag.failure)
        kind, first, size = self._place(tag, path, count)

        def respond(limit: int) -> bytes:
            if tag.is_moving:
                tag.move(self._moment)
            if kind is None:  # Bits of a whole array, in words.
                return reply(service, Status.SUCCESS, BOOL.reply_type + tag.memory[:size])
            if isinstance(kind, Structure) and kind.text_limit is not None:
                (length,) = struct.unpack_from("<i", tag.memory, first)
                text = tag.memory[first + 4 : first + 4 + length]
                return reply(service, Status.SUCCESS, b"\xd0\0" + struct.pack("<H", length) + text)
            value = bytes(tag.memory[first : first + size])
            if kind is BOOL:
                value = bytes((value != b"\0", 0))
            answer = reply(service, Status.SUCCESS, kind.reply_type + value)
            return answer if len(answer) <= limit else reply(service, Status.REPLY_TOO_LARGE)

        return respond

    def _place(self, tag: Tag, path: CipPath, count: int) -> tuple[Atomic | Structure | None, int, int]:
        """The type of what a path says, where it begins in the memory of the variable, and its bytes."""
        whole = tag.data_type
        if isinstance(whole, Array) and len(path.steps) == 1:
            if whole.of is BOOL:
                return None, 0, 2 * -(-whole.dimensions[0] // 16)
            return whole.element, 0, whole.size
        try:
            place = tag.find(path.steps[1:])
        except CipError as error:
            raise CipError(_INVALID_PARAMETER, _BEYOND) from error
        if count > place.count or not count:
            raise CipError(_INVALID_PARAMETER, _BEYOND if isinstance(whole, Array) else _NO_ARRAY)
        return place.data_type, place.offset, count * place.data_type.size


@asynccontextmanager
async def omron_server(plc: Controller) -> AsyncIterator[LogixServer]:
    """A server of an NJ or NX."""
    async with LogixServer(plc) as server:
        server.router = OmronRouter(plc)
        yield server


def plant(personality: Personality = OMRON) -> Controller:
    """An NJ501 with variables of several types."""
    identity = Identity(
        vendor=47, device_type=0x0C, product_code=0x0665, revision=(2, 6), status=0, serial=0x0000BEEF,
        product="NJ501-1300",
    )  # fmt: skip
    plc = Controller("Omron", identity=identity, personality=personality)
    plc.tag("Running", BOOL, True)
    plc.tag("Stopped", BOOL, False)
    plc.tag("Vials", DINT, 70_000)
    plc.tag("Volume", LREAL, 1.5)
    plc.tag("Lot", STRING, "LOT-2041-A")
    plc.tag("Samples", REAL[100], [at / 4 for at in range(100)])
    plc.tag("Row", INT[4], [11, 12, 13, 14])
    plc.tag("Alarms", BOOL[20], [at % 2 == 1 for at in range(20)])
    plc.tag("Huge", DINT[1000], list(range(1000)))
    plc.tag("Motor", plc.structure("Motor", {"Speed": REAL, "Code": INT}), {"Speed": 12.5, "Code": 7})
    plc.tag("Mask", INT, 0b1000)
    plc.tag("Elapsed", TIME, -1_500_000_000)
    plc.tag("Clock", DATE_AND_TIME_NSEC[2], [NOW_NS, 0])
    plc.tag(HIDDEN, DINT, 1)
    return plc


TAGS: Mapping[str, tuple[str, Any]] = {
    "Running": ("BOOL", True),
    "Stopped": ("BOOL", False),
    "Vials": ("DINT", 70_000),
    "Volume": ("LREAL", 1.5),
    "Lot": ("STRING", "LOT-2041-A"),
    "Samples[3]": ("REAL", 0.75),
    "Samples[4]": ("REAL", 1.0),
    "Samples[99]": ("REAL", 24.75),
    "Row": ("INT", 11),
    "Alarms": ("BOOL", False),
    "Motor.Speed": ("REAL", 12.5),
    "Motor.Code": ("INT", 7),
    "Mask.3": ("BOOL", True),
    "Mask.2": ("BOOL", False),
    "Elapsed": ("TIME", -1_500_000_000),
    "Clock[0]": ("DATE_AND_TIME", NOW_NS),
    "Clock": ("DATE_AND_TIME", NOW_NS),
}
REFUSED: Mapping[str, tuple[str, StatusCode]] = {
    "Nowhere": ("DINT", StatusCode.BAD_ADDRESS),
    "Samples[100]": ("REAL", StatusCode.BAD_ADDRESS),
    HIDDEN: ("DINT", StatusCode.BAD_ADDRESS),
    "Huge": ("DINT", StatusCode.BAD_DEVICE_FAILURE),
}


def tags() -> list[dict[str, Any]]:
    """All of them."""
    rows = [*TAGS.items(), *REFUSED.items()]
    return [{"name": name, "address": name, "type": kind} for name, (kind, _) in rows]


@asynccontextmanager
async def _started(_: Path, personality: Personality) -> AsyncIterator[Mapping[str, Any]]:
    async with omron_server(plant(personality)) as server:
        yield {
            "driver": "ethernetip", "host": server.host, "port": server.port,
            "scan_groups": [{"every": "500 ms", "tags": tags()}],
        }  # fmt: skip


CASES = tuple(
    FieldCase(
        id=f"ethernetip-{name}",
        device=device,
        does="Variables are asked for by name; for the name of an array its first element is the value.",
        start=partial(_started, personality=personality),
        values={name: None if "TIME" in kind else value for name, (kind, value) in TAGS.items()},
        refused={name: code for name, (_, code) in REFUSED.items()},
        needs={"family": "omron"},
        says="write family: omron",
    )
    for name, device, personality in (
        ("omron", "Omron NJ, NX and NY controllers that take one request at a time", OMRON),
        ("omron-packets", "Omron NJ, NX and NY controllers that take several requests in a packet", PACKED),
    )
)
