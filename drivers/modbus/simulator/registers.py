"""Values to registers, as a device holds them: the inverse of `drivers.modbus.decode`, for simulated devices only."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from drivers.modbus.settings import ModbusTag

Value = float | int | bool | str

_FORMATS = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
            "uint64": "Q", "int64": "q", "float32": "f", "float64": "d"}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOD10K = 10_000


def registers_of(tag: ModbusTag, value: Value) -> bytes:
    """A raw value encoded in the registers of a tag, or in its half of a register."""
    if tag.kind == "text":
        data = str(value).encode(tag.encoding)[: tag.length]
        data = data.ljust(2 * tag.count, b" " if tag.padding == "space" else b"\0")
    elif tag.kind in _FORMATS:
        data = struct.pack(">" + _FORMATS[tag.kind], value)
    else:
        number = _NUMBERS[tag.kind](int(value)) & (1 << 16 * tag.count) - 1
        data = number.to_bytes(2 * tag.count, "big")
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if tag.word_order == "little":
        words.reverse()
    if tag.byte_order == "little":
        words = [word[::-1] for word in words]
    return b"".join(words)


def _joined(*words: int) -> int:
    number = 0
    for word in words:
        number = number << 16 | word & 0xFFFF
    return number


def _bcd(value: int) -> int:
    return int(str(value), 16)


def _signed_magnitude(registers: int) -> Callable[[int], int]:
    return lambda value: abs(value) | (value < 0) << 16 * registers - 1


def _mod10k(registers: int) -> Callable[[int], int]:
    def encode(value: int) -> int:
        sign = -1 if value < 0 else 1
        return _joined(*(sign * (abs(value) // _MOD10K**power % _MOD10K) for power in reversed(range(registers))))

    return encode


def _moment(value_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value_ns // 1000)


def _datetime48(value_ns: int) -> int:
    at = _moment(value_ns)
    return _joined(at.month << 8 | at.day, at.year - 1900 << 8 | at.hour, at.minute << 8 | at.second)


def _datetime64(value_ns: int) -> int:
    return _datetime48(value_ns) << 16 | value_ns // 10**6 % 1000


def _datetime96(value_ns: int) -> int:
    at = _moment(value_ns)
    return _joined(at.year, at.month, at.day, at.hour, at.minute, at.second)


def _cp56(value_ns: int) -> int:
    at = _moment(value_ns)
    ms = at.second * 1000 + at.microsecond // 1000
    return _joined(at.year - 2000, at.month << 8 | at.isoweekday() << 5 | at.day, at.hour << 8 | at.minute, ms)


def _datetime_bcd48(value_ns: int) -> int:
    return int(_moment(value_ns).strftime("%y%m%d%H%M%S"), 16)


def _datetime_bcd64(value_ns: int) -> int:
    at = _moment(value_ns)
    return _datetime_bcd48(value_ns) << 16 | int(f"{at.microsecond // 1000:03}{at.isoweekday() % 7 + 1}", 16)


def _date_bcd32(value_ns: int) -> int:
    return int(_moment(value_ns).strftime("%Y%m%d"), 16)


_NUMBERS: dict[str, Callable[[int], int]] = {
    "uint24": int,
    "int48": int,
    "uint48": int,
    "signmag16": _signed_magnitude(1),
    "signmag32": _signed_magnitude(2),
    "bcd16": _bcd,
    "bcd32": _bcd,
    "mod10k32": _mod10k(2),
    "mod10k48": _mod10k(3),
    "mod10k64": _mod10k(4),
    "datetime48": _datetime48,
    "datetime64": _datetime64,
    "datetime96": _datetime96,
    "cp56": _cp56,
    "datetime_bcd48": _datetime_bcd48,
    "datetime_bcd64": _datetime_bcd64,
    "date_bcd32": _date_bcd32,
    "unix32": lambda value_ns: value_ns // 10**9,
}
"""The registers of a value as one number, the most significant register first."""
