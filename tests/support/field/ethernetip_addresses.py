"""Devices with EtherNet/IP that hold their values in attributes, as most that are no Logix controllers do."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator import DINT, GENERIC, Controller, Identity, LogixServer
from edge.model import StatusCode
from tests.support.field.case import FieldCase

Start = Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]

INPUTS = struct.pack("<HHf4h", 0b1000_0000_0010_0001, 1500, 37.25, -1, -2, 30_000, 4) + b"\x05\0LOT-7" + b"V2  \0\0"
"""What the input assembly holds: sixteen bits, a speed, a temperature, four counters, a lot, a version."""

ADDRESSES: Mapping[str, tuple[str, str, Any]] = {
    "running": ("cip 4/100/3.0", "BOOL", True),
    "fault": ("cip 4/100/3 +0.1", "BOOL", False),
    "door": ("cip 4/100/3 .15", "BOOL", True),
    "speed": ("cip 4/100/3 +2", "UINT", 1500),
    "temperature": ("cip 4/100/3 +4", "REAL", 37.25),
    "third": ("cip 4/100/3 +8[2]", "INT", 30_000),
    "lot": ("cip 4/100/3 +16", "STRING", "LOT-7"),
    "serial": ("cip 1/1/6", "UDINT", 0x00C0FFEE),
    "product": ("cip 1/1/7", "SHORT_STRING", "Remote I/O"),
    "minor": ("cip 1/1/4 +1", "USINT", 4),
    "ramp": ("cip 0x93/1/3", "INT", 600),
}


def remote_io() -> Controller:
    """Remote I/O that has no tags, and assemblies 100 and 101."""
    identity = Identity(device_type=7, product_code=7, revision=(2, 4), status=0, product="Remote I/O")
    device = Controller("Remote I/O", identity=identity, personality=GENERIC)
    device.attribute(4, 100, 3, INPUTS)
    device.attribute(4, 101, 3, bytes(4))
    device.attribute(0x93, 1, 3, struct.pack("<h", 600))
    return device


def tags() -> list[dict[str, Any]]:
    """One of each kind of address, a slice of bits, and a version without a length in front."""
    named = [{"name": name, "address": address, "type": kind} for name, (address, kind, _) in ADDRESSES.items()]
    return [
        *named,
        {"name": "inputs", "address": "cip 4/100/3.4..6", "type": "BOOL"},
        {"name": "version", "address": "cip 4/100/3 +23", "type": "CHARS", "length": 6},
        {"name": "beyond", "address": "cip 4/100/3 +28", "type": "UINT"},
    ]


VALUES = {name: value for name, (_, _, value) in ADDRESSES.items()} | {
    "inputs[4]": False,
    "inputs[5]": True,
    "inputs[6]": False,
    "version": "V2",
}


def long_assembly() -> Controller:
    """An instrument whose assembly is longer than an unconnected answer."""
    can = replace(GENERIC, has_large_connections=True, connection_bytes_most=4002)
    device = Controller("Spectrometer", identity=Identity(device_type=43, product="Spectrometer"), personality=can)
    device.attribute(4, 100, 3, bytes(996) + struct.pack("<f", 1.25))
    return device


def strings() -> Controller:
    """A controller with a string type of its own."""
    plc = Controller("Filler")
    plc.tag("Operator", plc.string("STRING20", 20), "Anna")
    plc.tag("Vials", DINT, 70_000)
    return plc


def served(make: Callable[[], Controller], groups: list[dict[str, Any]], **more: Any) -> Start:
    """A device that serves one client after another while its block is open."""

    @asynccontextmanager
    async def start(_: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with LogixServer(make()) as server:
            yield {"driver": "ethernetip", "host": server.host, "port": server.port, "scan_groups": groups, **more}

    return start


def group(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"every": "500 ms", "tags": list(rows)}]


VIALS = {"name": "vials", "address": "Vials", "type": "DINT"}
OPERATOR = {"name": "operator", "address": "Operator", "type": "STRING"}
PEAK = {"name": "peak", "address": "cip 4/100/3 +996", "type": "REAL"}

CASES = (
    FieldCase(
        id="ethernetip-assemblies",
        device="Remote I/O, drives and instruments on EtherNet/IP whose values are the bytes of an assembly",
        does="Reads the assembly once a scan and takes every value from its byte, element or bit; "
        "what lies beyond its end is BAD.",
        start=served(remote_io, group(*tags()), family="generic"),
        values=VALUES,
        refused={"beyond": StatusCode.BAD_ADDRESS},
    ),
    FieldCase(
        id="ethernetip-long-assembly",
        device="An EtherNet/IP device whose assembly is longer than the 504 bytes of a message without a connection",
        does="Says that the answer would be too large, and which setting leaves more room.",
        start=served(long_assembly, group(PEAK), family="generic"),
        values={"peak": 1.25},
        needs={"messaging": "connected"},
        says="messaging: connected",
    ),
    FieldCase(
        id="ethernetip-string-type",
        device="A Logix controller with a string type of its own",
        does="Reads it with its `length`, which `tidegate read` takes from the controller's list of tags; "
        "without it only this tag is BAD.",
        start=served(strings, group(VIALS, OPERATOR, {**OPERATOR, "name": "with-length", "length": 20})),
        values={"vials": 70_000, "with-length": "Anna"},
        refused={"operator": StatusCode.BAD_DECODING_ERROR},
        helps="`length` of the tag",
    ),
)
