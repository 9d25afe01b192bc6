"""Frames without transaction ids (MODBUS over Serial Line V1.02, 2.5): where one begins, ends, and whether it is whole.

A body is what both framings carry: unit, function code, data.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import NamedTuple, Protocol

from drivers.modbus.codec import EXCEPTION, READ_BITS, READ_DEVICE_IDENTIFICATION, READ_REGISTERS, identification_size

HEAD_BYTES = 2  # Unit and function: what a frame begins with.
_LONGEST = 256  # Of an RTU frame.


class Found(NamedTuple):
    """What was found in the bytes that were received.

    Attributes:
        start: bytes before it belong to no frame.
        end: where the frame ends; `start` where there is none yet.
        body: the body of the frame; None where more has to come.
    """

    start: int
    end: int
    body: bytes | None


class Framing(Protocol):
    """How a body travels."""

    def frame(self, body: bytes) -> bytes:
        """The bytes on the line."""
        ...

    def size(self, body_bytes: int) -> int:
        """How many bytes a body of some length takes on the line."""
        ...

    def find(self, received: bytearray, heads: Container[bytes]) -> Found:
        """The first whole frame; `heads` are the unit and function that one may begin with."""
        ...


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes | bytearray) -> bytes:
    """The checksum of an RTU frame, as it travels (2.5.1.2)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


class Rtu:
    """Binary. The line has no mark where a frame begins: it is known by its head, its length and its checksum."""

    def frame(self, body: bytes) -> bytes:
        """See `Framing.frame`."""
        return body + crc16(body)

    def size(self, body_bytes: int) -> int:
        """See `Framing.size`."""
        return body_bytes + 2

    def find(self, received: bytearray, heads: Container[bytes]) -> Found:
        """See `Framing.find`. Noise before a frame is skipped; within one nothing is looked for until it failed."""
        have = len(received)
        for start in range(have):
            head = bytes(received[start : start + HEAD_BYTES])
            if len(head) < HEAD_BYTES:
                return Found(start, start, None)
            if head not in heads:
                continue
            body_bytes = answer_size(received, start)
            if body_bytes is None or body_bytes + 2 > _LONGEST:
                continue
            end = start + body_bytes + 2
            if not body_bytes or end > have:
                return Found(start, start, None)
            if crc16(received[start : end - 2]) == received[end - 2 : end]:
                return Found(start, end, bytes(received[start : end - 2]))
        return Found(have, have, None)


class Ascii:
    """Hexadecimal between a colon and a new line, for lines and modems that need printable characters (2.5.2)."""

    def frame(self, body: bytes) -> bytes:
        """See `Framing.frame`."""
        return b":%s\r\n" % (body + bytes((-sum(body) & 0xFF,))).hex().upper().encode()

    def size(self, body_bytes: int) -> int:
        """See `Framing.size`."""
        return 2 * body_bytes + 5

    def find(self, received: bytearray, heads: Container[bytes]) -> Found:
        """See `Framing.find`."""
        at = 0
        while (line_end := received.find(b"\r\n", at)) >= 0:
            start, at = received.rfind(b":", at, line_end), line_end + 2
            body = _body_of(received[start + 1 : line_end]) if start >= 0 else None
            if body is not None and body[:HEAD_BYTES] in heads and answer_size(body, 0) == len(body):
                return Found(start, at, body)
        start = received.rfind(b":", at)
        if start < 0 or len(received) - start > self.size(_LONGEST - 2):
            start = len(received)
        return Found(start, start, None)


FRAME_BYTES: Mapping[str, Callable[[int], int]] = {
    "tcp": lambda body_bytes: body_bytes + 6,
    "rtu": Rtu().size,
    "ascii": Ascii().size,
}
"""How many bytes a body of some length takes, by framing."""


def _body_of(digits: bytearray) -> bytes | None:
    try:
        data = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None
    return data[:-1] if len(data) > HEAD_BYTES and sum(data) & 0xFF == 0 else None


def answer_size(received: bytes | bytearray, start: int) -> int | None:
    """Length of the body that begins at `start`, 0 while that is not known yet, None where it is no answer."""
    have = len(received) - start
    function = received[start + 1]
    if function & EXCEPTION:
        return 3
    if function in READ_BITS or function in READ_REGISTERS:
        return 3 + received[start + 2] if have > HEAD_BYTES else 0
    if function == READ_DEVICE_IDENTIFICATION:
        size = identification_size(received[start + HEAD_BYTES :])
        return size and size + HEAD_BYTES
    return None
