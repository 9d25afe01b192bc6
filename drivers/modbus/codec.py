"""Read requests (MODBUS Application Protocol V1.1b3) in frames of Modbus TCP (Messaging on TCP/IP V1.0b).

Only this module builds requests, and it has an allow-list of function codes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.modbus.address import Table

READ_BITS = (1, 2)
READ_REGISTERS = (3, 4)
READ_DEVICE_IDENTIFICATION = 43
MEI_DEVICE_IDENTIFICATION = 14
ALLOWED_FUNCTIONS = frozenset((*READ_BITS, *READ_REGISTERS, READ_DEVICE_IDENTIFICATION))

HEADER_BYTES = 9  # Transaction, protocol, length, unit, function, byte count.
LENGTH_MIN, LENGTH_MAX = 3, 254  # Of the length field: unit, function and one byte, up to a whole PDU.

EXCEPTION = 0x80  # Set in the function code of an exception answer.
ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
BUSY = (5, 6)
GATEWAY_FAILURES = (10, 11)
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "device behind the gateway does not respond",
}


def exception_text(code: int, table: Table | None = None) -> str:
    """An exception code in the standard's words, and what to try where the device does not read a table."""
    text = f"exception {code} ({_EXCEPTIONS.get(code, 'not in the standard')})"
    if code != ILLEGAL_FUNCTION or table is None:
        return text
    others = [other.label for other in Table if other.is_bits == table.is_bits and other is not table]
    return f"{text}: it cannot read the table {table.label}; try {others[0]}"


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One request, built once: only the transaction id changes from scan to scan.

    Attributes:
        wire_suffix: all bytes of the request after the transaction id.
        expected_header: the seven bytes that follow the transaction id in the right answer; empty where the answer has
            no fixed length.
        response_size: bytes of the right answer.
        offset: where the data of the answer goes in the image of the scan, up to `end`.
    """

    unit: int
    function: int
    first: int
    count: int
    wire_suffix: bytes
    expected_header: bytes
    response_size: int
    offset: int
    end: int

    @property
    def body(self) -> bytes:
        """Unit, function and data, which every framing carries."""
        return self.wire_suffix[4:]


def read_request(unit: int, function: int, first: int, count: int, offset: int = 0) -> Request:
    """A request for `count` bits or registers whose data goes to `offset` of the image."""
    data_bytes = (count + 7) // 8 if function in READ_BITS else 2 * count
    suffix = _wire_suffix(unit, function, struct.pack(">HH", first, count))
    header = struct.pack(">HHBBB", 0, 3 + data_bytes, unit, function, data_bytes)
    size = HEADER_BYTES + data_bytes
    return Request(unit, function, first, count, suffix, header, size, offset, offset + data_bytes)


def identification_request(unit: int, category: int, first_object: int) -> Request:
    """A request for device identification; category 1 is basic, 2 is regular."""
    data = bytes((MEI_DEVICE_IDENTIFICATION, category, first_object))
    suffix = _wire_suffix(unit, READ_DEVICE_IDENTIFICATION, data)
    return Request(unit, READ_DEVICE_IDENTIFICATION, first_object, 0, suffix, b"", 0, 0, 0)


def _wire_suffix(unit: int, function: int, data: bytes) -> bytes:
    if function not in ALLOWED_FUNCTIONS:
        raise ValueError(f"function code {function} is not one of the reading ones")
    return struct.pack(">HHBB", 0, 2 + len(data), unit, function) + data


def identification_size(data: bytes | bytearray) -> int | None:
    """Length of a device identification, from the byte after its function code on: 0 while it is unknown, None for
    anything else."""
    if data[:1] and data[0] != MEI_DEVICE_IDENTIFICATION:
        return None
    size = 6
    if len(data) < size:
        return 0
    for _ in range(data[5]):
        if len(data) < size + 2:
            return 0
        size += 2 + data[size + 1]
    return size


@dataclass(frozen=True, slots=True)
class Identification:
    """One answer to a request for device identification."""

    objects: dict[int, bytes]
    next_object: int | None


def parse_identification(data: bytes) -> Identification:
    """The objects in a device identification, from the byte after its function code on; otherwise ValueError."""
    if len(data) < 6 or data[0] != MEI_DEVICE_IDENTIFICATION:
        raise ValueError(f"not a device identification: {data[:16].hex(' ')}")
    more_follows, next_object, count = data[3:6]
    objects: dict[int, bytes] = {}
    at = 6
    for _ in range(count):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise ValueError("a device identification ends within an object")
        number, size = data[at], data[at + 1]
        objects[number] = data[at + 2 : at + 2 + size]
        at += 2 + size
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow the last object of a device identification")
    return Identification(objects, next_object if more_follows == 0xFF else None)
