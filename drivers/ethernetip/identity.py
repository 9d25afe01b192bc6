"""What a device says it is (CIP Vol 1, 5-2: the Identity object)."""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass

from drivers.ethernetip import codec
from drivers.ethernetip.codec import Question
from drivers.ethernetip.encapsulation import printable
from drivers.ethernetip.replies import data_of
from edge.model import Identity

_FACTS = struct.Struct("<HHHBBHIB")
_VENDORS = {
    1: "Rockwell Automation/Allen-Bradley",
    26: "Festo",
    34: "Hohner",
    40: "WAGO",
    44: "Yaskawa",
    46: "ABB",
    47: "Omron",
    48: "Turck",
    58: "Spectrum Controls",
    90: "HMS Networks",
    108: "Beckhoff",
    161: "Mitsubishi Electric",
    243: "Schneider Electric",
    283: "Hilscher",
    345: "Endress+Hauser",
    356: "Fanuc Robotics",
    562: "Phoenix Contact",
    634: "Hirschmann",
    678: "Cognex",
    808: "SICK",
    1251: "Siemens",
}
CONTROLLER, ADAPTER = 14, 12
_DEVICE_TYPES = {
    2: "AC drive",
    7: "discrete I/O",
    ADAPTER: "communications adapter",
    CONTROLLER: "programmable logic controller",
    19: "DC drive",
    22: "motor starter",
    24: "operator interface",
    35: "safety I/O",
    37: "motion drive",
    43: "generic device",
    44: "managed switch",
}
_KEYSWITCH = {0x1060: "run", 0x2070: "program", 0x3060: "remote run", 0x3070: "remote program"}
_KEYSWITCH_MASK = 0x30F0  # Of the status of a controller; the bits between are faults.
_FAULTS = {0x0100: "minor recoverable fault", 0x0200: "minor unrecoverable fault", 0x0400: "major recoverable fault",
           0x0800: "major unrecoverable fault"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """The attributes of an identity object."""

    vendor: int
    device_type: int
    product_code: int
    revision: str
    status: int
    serial: int
    product: str

    @property
    def vendor_name(self) -> str:
        """Its vendor, by name where it is a known one."""
        return _VENDORS.get(self.vendor, f"vendor {self.vendor}")

    @property
    def type_name(self) -> str:
        """What kind of device it is."""
        return _DEVICE_TYPES.get(self.device_type, f"device type {self.device_type}")

    def identity(self) -> Identity:
        """For the asset record."""
        more = [("device type", self.type_name), ("product code", str(self.product_code))]
        if self.device_type == CONTROLLER and (switch := _KEYSWITCH.get(self.status & _KEYSWITCH_MASK)):
            more.append(("keyswitch", switch))
        faults = ", ".join(text for bit, text in _FAULTS.items() if self.status & bit)
        if faults:
            more.append(("status", faults))
        return Identity(
            vendor=self.vendor_name,
            product=self.product,
            firmware=self.revision,
            serial=f"{self.serial:08X}",
            more=tuple(more),
        )


def parse_facts(data: bytes) -> Facts | None:
    """The attributes, one after the other; None where they are none."""
    if len(data) < _FACTS.size:
        return None
    vendor, kind, product, major, minor, status, serial, length = _FACTS.unpack_from(data)
    name = data[_FACTS.size : _FACTS.size + length]
    if len(name) != length:
        return None
    return Facts(vendor, kind, product, f"{major}.{minor}", status, serial, printable(name))


def controller_identity() -> Generator[Question, bytes, Identity]:
    """What the device at the end of the route says it is; empty where it does not say."""
    facts = facts_in((yield codec.get_all(codec.IDENTITY, 1)))
    return facts.identity() if facts is not None else Identity()


def facts_in(body: bytes) -> Facts | None:
    """The identity object in an answer; None where it has none."""
    data = data_of(body, codec.GET_ALL)
    return None if data is None else parse_facts(data)
