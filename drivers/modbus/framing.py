"""Frames without transaction ids (MODBUS over Serial Line V1.02, 2.5): where one begins, ends, and whether it is whole.

A body is what both framings carry: unit, function code, data.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from drivers.modbus.codec import EXCEPTION, READ_BITS, READ_DEVICE_IDENTIFICATION, READ_REGISTERS, identification_size
from drivers.modbus.settings import ModbusDevice

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


_WAITING_MAX = 4096  # Bytes that may be the beginning of a frame: far more than one is long.
_KEPT_BYTES = 260


class Hearing:
    """Takes frames from bytes, and keeps count of the rest.

    Attributes:
        noise: the beginning of what belongs to no answer, since the last question.
        noise_bytes: how much that is.
        noise_bytes_in_a_row: how much it is since the last answer.
    """

    def __init__(self, framing: Framing, heads: Container[bytes]) -> None:
        self.noise = bytearray()
        self.noise_bytes = self.noise_bytes_in_a_row = 0
        self._framing, self._heads = framing, heads
        self._received = bytearray()
        self._echo = b""

    @property
    def begun(self) -> bytes:
        """What came and may be the beginning of a frame."""
        return bytes(self._received)

    def ask(self, echo: bytes) -> None:
        """A question begins: what came before it is over. `echo` is what comes back to us of it."""
        self._received.clear()
        self.noise.clear()
        self.noise_bytes = 0
        self._echo = echo

    def frames(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that are whole with these bytes."""
        self._received += data
        if len(self._received) > _WAITING_MAX:
            self.give_up()
        if self._echo and not self._is_past_echo():
            return
        while self._received:
            found = self._framing.find(self._received, self._heads)
            self.count(self._received[: found.start])
            del self._received[: found.end]
            if found.body is None:
                return
            yield found.body

    def give_up(self) -> None:
        """What has begun will not become a frame any more."""
        self.count(self._received)
        self._received.clear()

    def count(self, noise: bytes | bytearray) -> None:
        """Something belongs to no answer."""
        self.noise_bytes += len(noise)
        self.noise_bytes_in_a_row += len(noise)
        self.noise += noise[: max(0, _KEPT_BYTES - len(self.noise))]

    def _is_past_echo(self) -> bool:
        """Take our own frame off what came; an adapter that does not send it back is none that echoes."""
        echo = self._echo
        if len(self._received) < len(echo) and echo.startswith(self._received):
            return False
        if self._received.startswith(echo):
            del self._received[: len(echo)]
        self._echo = b""
        return True


_CHARACTERS_OF_SILENCE = 3.5  # Between frames (MODBUS over Serial Line V1.02, 2.5.1.1),
_SILENCE_S_MIN = 0.00175  # and not less at more than 19200 baud, nor behind a converter.
_CHARACTER_BITS = {"rtu": 11, "ascii": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How time passes on a line."""

    character_s: float = 0.0
    silence_s: float = _SILENCE_S_MIN
    """Between two frames."""
    has_echo: bool = False
    """Whether what we send comes back to us."""


def pace_of(device: ModbusDevice) -> Pace:
    """How time passes on the way to a device."""
    if device.serial is None:
        return Pace()
    character_s = _CHARACTER_BITS[device.way] / device.serial.baud
    silence_s = max(_CHARACTERS_OF_SILENCE * character_s, _SILENCE_S_MIN)
    return Pace(character_s=character_s, silence_s=silence_s, has_echo=device.serial.echo)
