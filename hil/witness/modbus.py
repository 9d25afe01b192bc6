"""The witness of Modbus devices: pymodbus, one request for each tag.

What pymodbus lets pass is checked here: it accepts an answer with another number of registers than were asked for, and
after a timeout on a line it would take a late answer for the next one. So every answer is counted, and after a
timeout the connection is opened again. Its own reconnecting is off, because it leaks connections.
"""

from __future__ import annotations

import re
import struct
import termios
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.exceptions import ModbusException

from hil.witness import BAD, BAD_NO_COMMUNICATION, BAD_NO_DATA, GOOD, Seen, Value, boot_ns, cannot_read, named

_TABLES = {
    "holding": "read_holding_registers", "input": "read_input_registers", "coil": "read_coils",
    "discrete": "read_discrete_inputs",
}  # fmt: skip
_PREFIXES = {"4": "holding", "3": "input", "0": "coil", "1": "discrete"}
_ZERO_BASED = re.compile(r"(?P<table>[a-z]+)\s+(?P<number>0x[0-9a-f]+|\d+)(?:\.(?P<part>\S+))?", re.IGNORECASE)
_ONE_BASED = re.compile(r"(?P<table>[0134])x?(?P<number>\d{5})(?:\.(?P<part>\S+))?")
_FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ModbusReader:
    """See `hil.witness.Reader`."""

    library = named("pymodbus")

    def __init__(self, device: Any, tags: Sequence[Any]) -> None:
        if device.tls is not None or device.listen is not None:
            raise cannot_read(device, "Modbus over TLS, or a device that dials in")
        self._device = device
        self._points = [_Point(device, tag) for tag in tags]
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def read(self) -> list[Seen]:
        """See `hil.witness.Reader`."""
        return [await self._read(point) for point in self._points]

    async def _read(self, point: _Point) -> Seen:
        asked_ns = boot_ns()
        value, status = await self._asked(point)
        return Seen(point.name, value, point.type, status, asked_ns, boot_ns())

    async def _asked(self, point: _Point) -> tuple[Value | None, int]:
        try:
            client = await self._connected()
            answer = await getattr(client, point.function)(point.first, count=point.count, device_id=self._device.unit)
        except (ModbusException, OSError, termios.error):
            self._close()
            return None, BAD_NO_COMMUNICATION
        if answer.isError():
            return None, BAD
        items = answer.bits[:1] if point.is_bits else answer.registers
        if len(items) != point.count:
            self._close()  # What arrived is the answer to something else.
            return None, BAD
        try:
            value = bool(items[0]) if point.is_bits else point.decoded(items)
        except (ValueError, OverflowError):
            return None, BAD
        return (None, BAD_NO_DATA) if point.is_absent(value) else (value, GOOD)

    async def _connected(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if self._client is None:
            self._client = self._made()
            await self._client.connect()
        if not self._client.connected:
            raise OSError("no connection")
        return self._client

    def _made(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        device = self._device
        framer, timeout_s = _FRAMERS[device.effective_framing], device.limits.timeout / 1e9
        if device.serial is None:
            return AsyncModbusTcpClient(
                device.host, port=device.tcp_port, framer=framer, timeout=timeout_s, retries=0, reconnect_delay=0
            )
        line = device.serial
        return AsyncModbusSerialClient(
            line.port, framer=framer, baudrate=line.baud, parity=line.parity[0].upper(), stopbits=line.stops,
            handle_local_echo=line.echo, timeout=timeout_s, retries=0, reconnect_delay=0,
        )  # fmt: skip

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class _Point:
    """Where a tag is, and what its registers mean."""

    def __init__(self, device: Any, tag: Any) -> None:
        text = str(tag.address).strip()
        match = _ZERO_BASED.fullmatch(text) or _ONE_BASED.fullmatch(text)
        if match is None:
            raise cannot_read(device, f"the address {text!r}", [tag.name])
        is_one_based = match["table"] in _PREFIXES
        table = _PREFIXES[match["table"]] if is_one_based else match["table"].lower()
        self.name, self.tag, self.part = tag.name, tag, match["part"]
        self.function = _TABLES[table]
        self.first = int(match["number"], 0 if "x" in match["number"].lower() else 10) - is_one_based
        self.is_bits = table in ("coil", "discrete")
        self.kind = tag.type or ("uint16" if "-" in (self.part or "") else "bool")
        self.word_order = tag.word_order or device.word_order
        self.byte_order = tag.byte_order or device.byte_order
        self.type, self.count = _shape(self.kind, tag.length)
        self.invalid = device.invalid if tag.invalid is None else tag.invalid

    def decoded(self, registers: Sequence[int]) -> Value:
        """The value of its registers; ValueError where they stand for none."""
        words = [word if self.byte_order == "big" else (word & 0xFF) << 8 | word >> 8 for word in registers]
        if self.kind == "text":
            return _text(words, self.tag)
        if self.part is not None:
            return _part(words[0], self.part, self.kind)
        if kind := getattr(ModbusClientMixin.DATATYPE, self.kind.upper(), None):
            value = ModbusClientMixin.convert_from_registers(list(words), kind, self.word_order)
            assert isinstance(value, int | float)
            return value
        return _DECODERS[self.kind](words if self.word_order == "big" else words[::-1])

    def is_absent(self, value: Value) -> bool:
        """Whether the value stands for "not available"."""
        if isinstance(value, str | bool) or self.invalid == "none":
            return False
        if self.invalid == "sunspec":
            return value != value if self.type.startswith("float") else value == _SUNSPEC.get(self.kind)
        bits = 16 * self.count
        return value in self.invalid or (value < 0 and value + (1 << bits) in self.invalid)


_SUNSPEC = {f"uint{bits}": (1 << bits) - 1 for bits in (16, 32, 64)} | {
    f"int{bits}": -(1 << bits - 1) for bits in (16, 32, 64)
}
_SHAPES = {
    "uint24": ("uint32", 2), "int48": ("int64", 3), "uint48": ("uint64", 3), "signmag16": ("int16", 1),
    "signmag32": ("int32", 2), "bcd16": ("uint16", 1), "bcd32": ("uint32", 2), "mod10k32": ("int32", 2),
    "mod10k48": ("int64", 3), "mod10k64": ("int64", 4), "datetime48": ("int64", 3), "datetime64": ("int64", 4),
    "datetime96": ("int64", 6), "cp56": ("int64", 4), "datetime_bcd48": ("int64", 3), "datetime_bcd64": ("int64", 4),
    "date_bcd32": ("int64", 2), "unix32": ("int64", 2),
}  # fmt: skip


def _shape(kind: str, length: int | None) -> tuple[str, int]:
    """(type of the value, number of registers)."""
    if kind == "text":
        return "text", ((length or 0) + 1) // 2
    if kind in _SHAPES:
        return _SHAPES[kind]
    digits = re.sub(r"\D", "", kind)
    return kind, max(1, int(digits or "1") // 16)


def _text(words: Sequence[int], tag: Any) -> str:
    data = struct.pack(f">{len(words)}H", *words)[: tag.length]
    if tag.padding in ("any", "nul"):
        data = data.split(b"\0", 1)[0]
    text: str = data.decode(tag.encoding)
    return text.rstrip(" ") if tag.padding in ("any", "space") else text


def _part(word: int, part: str, kind: str) -> Value:
    if part in ("high", "low"):
        byte = word >> 8 if part == "high" else word & 0xFF
        return byte - 256 if kind == "int8" and byte > 127 else byte
    low, _, high = part.partition("-")
    first, last = sorted((int(low), int(high or low)))
    value = word >> first & (1 << last - first + 1) - 1
    return bool(value) if kind == "bool" else value


def _unsigned(words: Sequence[int]) -> int:
    return int.from_bytes(struct.pack(f">{len(words)}H", *words), "big")


def _signed_magnitude(words: Sequence[int]) -> int:
    sign = 1 << 16 * len(words) - 1
    value = _unsigned(words)
    return value if value < sign else sign - value


def _mod10k(words: Sequence[int]) -> int:
    signed = struct.unpack(f">{len(words)}h", struct.pack(f">{len(words)}H", *words))
    if any(abs(word) > 9999 for word in signed) or min(signed) < 0 < max(signed):
        raise ValueError("no four digits in a register")
    return sum(word * 10_000**power for power, word in enumerate(reversed(signed)))


def _hex_digits(words: Sequence[int]) -> str:
    """The nibbles as digits, which is what BCD is."""
    return "".join(f"{word:04x}" for word in words)


def _moment(*parts: int, ms: int = 0) -> int:
    return (datetime(*parts, tzinfo=UTC) + timedelta(milliseconds=ms) - _EPOCH) // timedelta(microseconds=1) * 1000  # type: ignore[arg-type, misc]


def _bytes(words: Sequence[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


def _datetime48(words: Sequence[int]) -> int:
    month, day, year, hour, minute, second = _bytes(words[:3])
    if len(words) > 3 and words[3] > 999:
        raise ValueError("more than 999 ms")
    return _moment(1900 + year, month, day, hour, minute, second, ms=words[3] if len(words) > 3 else 0)


def _cp56(words: Sequence[int]) -> int:
    _, year, month, day, hour, minute, _, _ = _bytes(words)
    if words[3] >= 60_000:
        raise ValueError("more than a minute")
    return _moment(2000 + (year & 127), month & 15, day & 31, hour & 31, minute & 63, ms=words[3])


def _datetime_bcd(words: Sequence[int]) -> int:
    digits = _hex_digits(words)
    year, *rest = (int(digits[at : at + 2]) for at in range(0, 12, 2))
    return _moment(year + (2000 if year < 90 else 1900), *rest, ms=int(digits[12:15] or "0"))


def _date_bcd(words: Sequence[int]) -> int:
    digits = _hex_digits(words)
    return _moment(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


_DECODERS: dict[str, Callable[[Sequence[int]], Value]] = {
    "uint24": lambda words: _unsigned(words) & 0xFFFFFF,
    "uint48": _unsigned,
    "int48": lambda words: int.from_bytes(_bytes(words), "big", signed=True),
    "signmag16": _signed_magnitude, "signmag32": _signed_magnitude,
    "bcd16": lambda words: int(_hex_digits(words)), "bcd32": lambda words: int(_hex_digits(words)),
    "mod10k32": _mod10k, "mod10k48": _mod10k, "mod10k64": _mod10k,
    "datetime48": _datetime48, "datetime64": _datetime48, "datetime96": lambda words: _moment(*words), "cp56": _cp56,
    "datetime_bcd48": _datetime_bcd, "datetime_bcd64": _datetime_bcd, "date_bcd32": _date_bcd,
    "unix32": lambda words: _unsigned(words) * 10**9,
}  # fmt: skip
