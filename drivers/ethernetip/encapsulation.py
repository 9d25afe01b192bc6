"""Frames of EtherNet/IP: the encapsulation header and the items in it (CIP Vol 2, chapter 2)."""

from __future__ import annotations

import struct

from drivers.ethernetip.cip import Sendable

PORT = 44818
NOP, LIST_IDENTITY, REGISTER, UNREGISTER, SEND_RR, SEND_UNIT = 0x00, 0x63, 0x65, 0x66, 0x6F, 0x70
HEADER_BYTES = 24

HEADER = struct.Struct("<HHII8sI")
_UNIT = struct.Struct("<HHII8xIIHHHHIHHH")
_RR = struct.Struct("<HHII8sIIHHHHHH")
UNIT_ANSWER = struct.Struct("<HHII8xII2xHHHIHHH")
"""A connected answer up to its data, without context and timeout, which mean nothing there."""
RR_ANSWER = struct.Struct("<HHII8sII2xHHHHH")
"""An unconnected answer up to its data, without timeout."""
_NULL_ITEM, _CONNECTED_ADDRESS, _CONNECTED_DATA, _UNCONNECTED_DATA = 0x0000, 0x00A1, 0x00B1, 0x00B2

_STATUS = {
    0x01: "it does not know the command",
    0x02: "it has no memory left",
    0x03: "it found the data poorly formed",
    0x64: "it does not know our session any more",
    0x65: "it found the length wrong",
    0x69: "it speaks another version of the protocol",
}


def status_text(status: int) -> str:
    """An encapsulation status in words."""
    return f"{_STATUS.get(status, 'it refused')} (encapsulation status 0x{status:02X})"


def register_frame() -> bytes:
    """Ask for a session, version 1 of the protocol."""
    return HEADER.pack(REGISTER, 4, 0, 0, bytes(8), 0) + b"\x01\0\0\0"


def unregister_frame(session: int) -> bytes:
    """Give a session back; there is no answer."""
    return HEADER.pack(UNREGISTER, 0, session, 0, bytes(8), 0)


def list_identity_frame(context: bytes) -> bytes:
    """Ask a device what it is; needs no session."""
    return HEADER.pack(LIST_IDENTITY, 0, 0, 0, context, 0)


def unconnected_frame(session: int, context: bytes, message: Sendable) -> bytes:
    """A question on its own; the answer bears the same context."""
    size = len(message.data)
    return _RR.pack(
        SEND_RR, 16 + size, session, 0, context, 0, 0, 0, 2, _NULL_ITEM, 0, _UNCONNECTED_DATA, size
    ) + message.data  # fmt: skip


def connected_frame(session: int, connection: int, sequence: int, data: bytes) -> bytes:
    """A question on a connection; the answer bears the same sequence count."""
    size = len(data)
    return _UNIT.pack(
        SEND_UNIT, 22 + size, session, 0, 0, 0, 0, 2, _CONNECTED_ADDRESS, 4, connection, _CONNECTED_DATA, 2 + size,
        sequence,
    ) + data  # fmt: skip


def connected_fields(size: int, session: int, connection: int, sequence: int) -> tuple[int, ...]:
    """What `UNIT_ANSWER` finds in a right connected answer of `size` bytes in all."""
    length = size - HEADER_BYTES
    return (SEND_UNIT, length, session, 0, 0, 0, 2, _CONNECTED_ADDRESS, 4, connection, _CONNECTED_DATA, length - 20,
            sequence)  # fmt: skip


def unconnected_fields(size: int, session: int, context: bytes) -> tuple[int | bytes, ...]:
    """What `RR_ANSWER` finds in a right unconnected answer of `size` bytes in all."""
    length = size - HEADER_BYTES
    return (SEND_RR, length, session, 0, context, 0, 0, 2, _NULL_ITEM, 0, _UNCONNECTED_DATA, length - 16)


def printable(text: bytes) -> str:
    """Text of a device for people, whatever is in it."""
    return "".join(c if c.isprintable() else "?" for c in text.rstrip(b"\0 ").decode("latin-1"))
