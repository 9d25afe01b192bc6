"""The objects of a device without tags, for `tidegate browse`: its classes, and its assemblies with their bytes."""

from __future__ import annotations

import struct
from collections.abc import Generator

from drivers.ethernetip import cip
from drivers.ethernetip.address import AttributeAddress
from drivers.ethernetip.cip import SUCCESS, Question, reply_of
from edge.driver import BrowseEntry

IDENTITY = {
    "vendor": {"address": "cip 1/1/1", "type": "UINT"},
    "device type": {"address": "cip 1/1/2", "type": "UINT"},
    "product code": {"address": "cip 1/1/3", "type": "UINT"},
    "revision": {"address": "cip 1/1/4 +0", "type": "USINT"},
    "minor revision": {"address": "cip 1/1/4 +1", "type": "USINT"},
    "status": {"address": "cip 1/1/5", "type": "WORD"},
    "serial number": {"address": "cip 1/1/6", "type": "UDINT"},
    "product": {"address": "cip 1/1/7", "type": "SHORT_STRING"},
}
"""The attributes that every device has (CIP Vol 1, 5-2)."""

_ROUTER, _ASSEMBLY, _DATA = 0x02, 0x04, 3
_CLASSES = {
    0x01: "Identity", _ROUTER: "Message Router", _ASSEMBLY: "Assembly", 0x05: "Connection", 0x06: "Connection Manager",
    0x07: "Register", 0x08: "Discrete Input Point", 0x09: "Discrete Output Point", 0x0A: "Analog Input Point",
    0x0B: "Analog Output Point", 0x0F: "Parameter", 0x10: "Parameter Group", 0x28: "Motor Data",
    0x29: "Control Supervisor", 0x2A: "AC/DC Drive", 0x2C: "Overload", 0x31: "S-Analog Sensor", 0x37: "File",
    0x43: "Time Sync", 0x47: "Device Level Ring", 0x48: "QoS", 0x4E: "Base Energy", 0xF4: "Port",
    0xF5: "TCP/IP Interface", 0xF6: "Ethernet Link",
}  # fmt: skip
_INSTANCES_MAX, _INSTANCES_UNKNOWN = 1023, 255
_BYTES_SHOWN = 16


def listed() -> Generator[Question, bytes, list[BrowseEntry]]:
    """The classes and the assemblies of a device. Raises ProtocolViolation for an answer to another question."""
    classes = yield from _classes()
    entries = [BrowseEntry(name=f"class 0x{number:02X}", type=_CLASSES.get(number, "")) for number in classes]
    last = yield from _attribute(AttributeAddress(_ASSEMBLY, 0, 2))
    instances = int.from_bytes(last, "little") if len(last) == 2 else _INSTANCES_UNKNOWN
    for instance in range(1, min(instances, _INSTANCES_MAX) + 1):
        where = AttributeAddress(_ASSEMBLY, instance, _DATA)
        if data := (yield from _attribute(where)):
            value = data[:_BYTES_SHOWN].hex(" ") + (" ..." if len(data) > _BYTES_SHOWN else "")
            why_not = f'it may hold many values: write byte and type of each, as in "{where} +0"'
            entries.append(
                BrowseEntry(name=str(where), type=f"assembly, {len(data)} bytes", value=value, why_not=why_not)
            )
    return entries


def _classes() -> Generator[Question, bytes, list[int]]:
    """Those that its message router lists (CIP Vol 1, 5-3); without a list, those of the standard that answer."""
    data = yield from _attribute(AttributeAddress(_ROUTER, 1, 1))
    if len(data) > 2 and len(data) % 2 == 0:
        return list(struct.unpack(f"<{len(data) // 2}H", data)[1:])
    found = []
    for number in _CLASSES:
        if (yield from _attribute(AttributeAddress(number, 0, 1))):
            found.append(number)  # noqa: PERF401 - a generator cannot wait for an answer in a list comprehension
    return found


def _attribute(where: AttributeAddress) -> Generator[Question, bytes, bytes]:
    """The bytes of an attribute; empty where it is refused."""
    question = cip.get_single(where)
    body = yield question
    reply = reply_of(body, question.data[0])
    return body[reply.start : reply.end] if reply.status == SUCCESS else b""
