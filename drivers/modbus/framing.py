"""Frames without transaction ids (MODBUS over Serial Line V1.02, 2.5): RTU and ASCII, received byte by byte, and timed;
and frames of Modbus TCP whose header is not right.

A body is what both framings carry: unit, function code, data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from drivers.modbus.codec import EXCEPTION, READ_BITS, READ_DEVICE_IDENTIFICATION, READ_REGISTERS, identification_size
from drivers.modbus.settings import ModbusDevice

HEAD_BYTES = 2  # Unit and function.
_RTU_BYTES_MAX = 256
_PARTIAL_BYTES_MAX = 4096  # Much more than a frame.
_NOISE_BYTES_KEPT = 260
_SILENCE_CHARACTERS = 3.5  # Between frames (2.5.1.1),
_SILENCE_S_MIN = 0.00175  # but not less above 19200 baud, nor behind a converter.
_CHARACTER_BITS = {"rtu": 11, "ascii": 10}
_TCP_HEADER = struct.Struct(">HHH")  # Transaction, protocol, length.


class Found(NamedTuple):
    """Result of a search for a frame.

    Attributes:
        start: bytes before it belong to no frame.
        end: where the frame ends; `start` where none is complete.
        body: the body of the frame; None while more has to come.
    """

    start: int
    end: int
    body: bytes | None


class Framing(Protocol):
    """How a body is written on the line. With `ends_at_timeout` a request without an answer ends the connection."""

    ends_at_timeout: bool

    def frame(self, body: bytes) -> bytes:
        """The frame that carries the body of the next request."""
        ...

    def size(self, body_bytes: int) -> int:
        """Length of the frame that carries a body of this length."""
        ...

    def find(self, received: bytearray, heads: Container[bytes]) -> Found:
        """The first complete frame; `heads` are the pairs of unit and function that are expected."""
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
    """The checksum of an RTU frame in the order of transmission (2.5.1.2)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


class Rtu:
    """Binary frames (2.5.1). Nothing marks their beginning: they are found by head, length and checksum."""

    ends_at_timeout = False

    def frame(self, body: bytes) -> bytes:
        """See `Framing.frame`."""
        return body + crc16(body)

    def size(self, body_bytes: int) -> int:
        """See `Framing.size`."""
        return body_bytes + 2

    def find(self, received: bytearray, heads: Container[bytes]) -> Found:
        """See `Framing.find`. Skips noise before a frame; does not search within a frame that may still be valid."""
        have = len(received)
        for start in range(have):
            head = bytes(received[start : start + HEAD_BYTES])
            if len(head) < HEAD_BYTES:
                return Found(start, start, None)
            if head not in heads:
                continue
            body_bytes = answer_size(received, start)
            if body_bytes is None or body_bytes + 2 > _RTU_BYTES_MAX:
                continue
            end = start + body_bytes + 2
            if not body_bytes or end > have:
                return Found(start, start, None)
            if crc16(received[start : end - 2]) == received[end - 2 : end]:
                return Found(start, end, bytes(received[start : end - 2]))
        return Found(have, have, None)


class Ascii:
    """Hexadecimal digits between a colon and CR LF, for modems that need printable characters (2.5.2)."""

    ends_at_timeout = False

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
        if start < 0 or len(received) - start > self.size(_RTU_BYTES_MAX - 2):
            start = len(received)
        return Found(start, start, None)


class TolerantTcp:
    """Modbus TCP of a device that gets a part of the header wrong: what is tolerated is not compared.

    Then nothing says which request an answer belongs to, as on a line; a new connection at least leaves late answers of
    the device itself behind.
    """

    ends_at_timeout = True

    def __init__(self, tolerated: Collection[str]) -> None:
        self._tolerated = tolerated
        self._transaction = self._unit = 0

    def frame(self, body: bytes) -> bytes:
        """See `Framing.frame`."""
        self._transaction, self._unit = self._transaction % 0xFFFF + 1, body[0]
        return _TCP_HEADER.pack(self._transaction, 0, len(body)) + body

    def size(self, body_bytes: int) -> int:
        """See `Framing.size`."""
        return body_bytes + _TCP_HEADER.size

    def find(self, received: bytearray, heads: Container[bytes]) -> Found:
        """See `Framing.find`. An answer begins with the first byte: searched for, it could be found in data."""
        have = len(received)
        if have < self.size(3):
            return Found(0, 0, None)
        transaction, protocol, length = _TCP_HEADER.unpack_from(received)
        body = bytes((self._unit if "unit" in self._tolerated else received[_TCP_HEADER.size],))
        body += received[_TCP_HEADER.size + 1 :]
        body_bytes = answer_size(body, 0)
        is_answer = (
            protocol == 0
            and (transaction == self._transaction or "transaction" in self._tolerated)
            and (length == body_bytes or "length" in self._tolerated or body_bytes == 0)
            and body[:HEAD_BYTES] in heads
        )
        if not is_answer or body_bytes is None:
            return Found(have, have, None)
        end = self.size(body_bytes)
        if not body_bytes or end > have:
            return Found(0, 0, None)
        return Found(0, end, body[:body_bytes])


FRAME_BYTES: Mapping[str, Callable[[int], int]] = {
    "tcp": lambda body_bytes: body_bytes + 6,
    "rtu": Rtu().size,
    "ascii": Ascii().size,
}
"""Length of a frame by that of its body, for each framing."""


def _body_of(digits: bytearray) -> bytes | None:
    try:
        data = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None
    return data[:-1] if len(data) > HEAD_BYTES and sum(data) & 0xFF == 0 else None


def answer_size(received: bytes | bytearray, start: int) -> int | None:
    """Length of the body that begins at `start`: 0 while it is not known yet, None for what is not an answer."""
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


class FrameReceiver:
    """Takes complete frames out of received bytes, without a transport, and counts the noise between them.

    Attributes:
        noise: the beginning of the bytes that belong to no answer, since the last request.
        noise_bytes: how many they are.
        noise_bytes_in_a_row: how many since the last answer.
    """

    def __init__(self, framing: Framing, heads: Container[bytes]) -> None:
        self.noise = bytearray()
        self.noise_bytes = self.noise_bytes_in_a_row = 0
        self._framing, self._heads = framing, heads
        self._received = bytearray()
        self._echo = b""

    @property
    def partial(self) -> bytes:
        """Received bytes that may be the beginning of a frame."""
        return bytes(self._received)

    def start_request(self, echo: bytes) -> None:
        """Forget what came before a request; `echo` is what an adapter sends back of it."""
        self._received.clear()
        self.noise.clear()
        self.noise_bytes = 0
        self._echo = echo

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that are complete with these bytes."""
        self._received += data
        if len(self._received) > _PARTIAL_BYTES_MAX:
            self.discard_partial()
        if self._echo and not self._skip_echo():
            return
        while self._received:
            found = self._framing.find(self._received, self._heads)
            self.count_noise(self._received[: found.start])
            del self._received[: found.end]
            if found.body is None:
                return
            yield found.body

    def discard_partial(self) -> None:
        """Count the beginning of a frame as noise: the rest does not come."""
        self.count_noise(self._received)
        self._received.clear()

    def count_noise(self, noise: bytes | bytearray) -> None:
        """Count bytes that belong to no answer."""
        self.noise_bytes += len(noise)
        self.noise_bytes_in_a_row += len(noise)
        self.noise += noise[: max(0, _NOISE_BYTES_KEPT - len(self.noise))]

    def _skip_echo(self) -> bool:
        """Remove the echo of our request; False while more of it may come. Adapters without an echo send none."""
        echo = self._echo
        if len(self._received) < len(echo) and echo.startswith(self._received):
            return False
        if self._received.startswith(echo):
            del self._received[: len(echo)]
        self._echo = b""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTiming:
    """How long bytes travel to a device, and how long the line is silent between frames.

    Attributes:
        has_echo: whether the adapter sends back what we send.
    """

    character_s: float = 0.0
    silence_s: float = _SILENCE_S_MIN
    has_echo: bool = False


def line_timing(device: ModbusDevice) -> LineTiming:
    """The timing of the line that a device is on; bytes of TCP take no time, and frames with a header no silence."""
    if device.serial is None:
        return LineTiming(silence_s=0.0) if device.effective_framing == "tcp" else LineTiming()
    character_s = _CHARACTER_BITS[device.effective_framing] / device.serial.baud
    silence_s = max(_SILENCE_CHARACTERS * character_s, _SILENCE_S_MIN)
    return LineTiming(character_s=character_s, silence_s=silence_s, has_echo=device.serial.echo)
