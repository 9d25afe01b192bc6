"""Devices with EtherNet/IP that hold their values in attributes, as most that are no Logix controllers do."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator import GENERIC, Controller, Identity, LogixServer
from edge.model import StatusCode
from tests.support.field.case import FieldCase

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


@asynccontextmanager
async def _remote_io(_: Path) -> AsyncIterator[Mapping[str, Any]]:
    async with LogixServer(remote_io()) as server:
        yield {
            "driver": "ethernetip", "host": server.host, "port": server.port, "family": "generic",
            "scan_groups": [{"every": "500 ms", "tags": tags()}],
        }  # fmt: skip


CASES = (
    FieldCase(
        id="ethernetip-assemblies",
        device="Remote I/O, drives and instruments on EtherNet/IP whose values are the bytes of an assembly",
        does="Reads the assembly once a scan and takes every value from its byte, element or bit; "
        "what lies beyond its end is BAD.",
        start=_remote_io,
        values=VALUES,
        refused={"beyond": StatusCode.BAD_ADDRESS},
    ),
)
