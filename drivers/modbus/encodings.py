"""Encodings that no machine has: decimal digits, odd widths, signed magnitude, dates and times.

Each decodes the registers of many values at once: a row of `Words` for each value, its most significant register first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model import DataType, StatusCode, TimeKind, Vector

Words = NDArray[np.int64]
Codes = NDArray[np.uint32]
"""The status of each value."""

_SECOND_NS = 10**9
_DAY_NS = 86_400 * _SECOND_NS


@dataclass(frozen=True, slots=True)
class Encoding:
    """How many registers a value has, what it is recorded as, and the function that decodes it."""

    registers: int
    data_type: DataType
    decode: Callable[[Words], tuple[Vector, Codes]]
    time_kind: TimeKind | None = None


def _unless(wrong: NDArray[np.bool_]) -> Codes:
    return np.where(wrong, np.uint32(StatusCode.BAD_DECODING_ERROR), np.uint32(0))


def _good(words: Words) -> Codes:
    return np.zeros(len(words), np.uint32)


def _joined(words: Words) -> Words:
    """The registers as one unsigned number of up to 48 bits."""
    value = words[:, 0]
    for column in range(1, words.shape[1]):
        value = value << 16 | words[:, column]
    return value


def _uint24(words: Words) -> tuple[Vector, Codes]:
    return _joined(words) & 0xFFFFFF, _good(words)  # The highest byte is a status in some devices.


def _uint48(words: Words) -> tuple[Vector, Codes]:
    return _joined(words), _good(words)


def _int48(words: Words) -> tuple[Vector, Codes]:
    return (_joined(words) ^ 1 << 47) - (1 << 47), _good(words)


def _signed_magnitude(words: Words) -> tuple[Vector, Codes]:
    value, sign = _joined(words), 1 << 16 * words.shape[1] - 1
    magnitude = value & sign - 1
    return np.where(value & sign, -magnitude, magnitude), _good(words)


def _mod10k(words: Words) -> tuple[Vector, Codes]:
    """Four decimal digits in each register, which is negative in a negative number."""
    signed = [(word ^ 0x8000) - 0x8000 for word in words.T]
    lowest, highest = np.minimum.reduce(signed), np.maximum.reduce(signed)
    wrong = (lowest < -9999) | (highest > 9999) | ((lowest < 0) & (highest > 0))
    return np.where(wrong, 0, _number(signed, 10_000)), _unless(wrong)


def _digits(words: Words) -> tuple[list[Words], NDArray[np.bool_]]:
    """The decimal digits, the first one first, and which values have an impossible one."""
    digits = [word >> shift & 0xF for word in words.T for shift in (12, 8, 4, 0)]
    return digits, np.maximum.reduce(digits) > 9


def _number(digits: Sequence[Words], base: int = 10) -> Words:
    number = np.zeros_like(digits[0])
    for digit in digits:
        number = number * base + digit
    return number


def _bcd(words: Words) -> tuple[Vector, Codes]:
    digits, wrong = _digits(words)
    return np.where(wrong, 0, _number(digits)), _unless(wrong)


def _moments(
    year: Words, month: Words, day: Words, hour: Words | int = 0, minute: Words | int = 0, ns: Words | int = 0
) -> tuple[Vector, Codes]:
    """Nanoseconds since 1970; BAD where it is no date of the calendar, or none that fits."""
    first = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    begin, end = (months.astype("M8[D]").astype(np.int64) for months in (first, first + 1))
    wrong = (year < 1678) | (year > 2261) | (month < 1) | (month > 12) | (day < 1) | (begin + day > end)
    wrong = wrong | (hour > 23) | (minute > 59) | (ns >= 60 * _SECOND_NS)
    moment = (begin + day - 1) * _DAY_NS + (hour * 60 + minute) * (60 * _SECOND_NS) + ns
    return np.where(wrong, 0, moment), _unless(wrong)


def _bytes(words: Words) -> tuple[Words, ...]:
    return tuple(part for word in words.T for part in (word >> 8, word & 0xFF))


def _datetime48(words: Words) -> tuple[Vector, Codes]:
    month, day, year, hour, minute, second = _bytes(words)
    return _moments(1900 + year, month, day, hour, minute, second * _SECOND_NS)


def _datetime64(words: Words) -> tuple[Vector, Codes]:
    value, codes = _datetime48(words[:, :3])
    wrong = (codes > 0) | (words[:, 3] > 999)
    return np.where(wrong, 0, value + words[:, 3] * 10**6), _unless(wrong)


def _datetime96(words: Words) -> tuple[Vector, Codes]:
    year, month, day, hour, minute, second = words.T
    return _moments(year, month, day, hour, minute, second * _SECOND_NS)


def _cp56(words: Words) -> tuple[Vector, Codes]:
    _, year, month, day, hour, minute, _, _ = _bytes(words)
    value, codes = _moments(
        2000 + (year & 0x7F), month & 0x0F, day & 0x1F, hour & 0x1F, minute & 0x3F, words[:, 3] * 10**6
    )
    is_doubtful = (minute & 0x80 > 0) & (codes == 0)  # The device's clock was never set, or lost its source.
    return value, np.where(is_doubtful, np.uint32(StatusCode.UNCERTAIN), codes)


def _datetime_bcd(words: Words) -> tuple[Vector, Codes]:
    """Digits yymmddhhmmss, and in four registers milliseconds and the day of the week; 90 to 99 are 1990 to 1999."""
    digits, is_impossible = _digits(words)
    year, month, day, hour, minute, second = (_number(digits[at : at + 2]) for at in range(0, 12, 2))
    ns = second * _SECOND_NS + (_number(digits[12:15]) * 10**6 if len(digits) > 12 else 0)
    value, codes = _moments(np.where(year < 90, 2000, 1900) + year, month, day, hour, minute, ns)
    wrong = is_impossible | (codes > 0)
    return np.where(wrong, 0, value), _unless(wrong)


def _date_bcd32(words: Words) -> tuple[Vector, Codes]:
    digits, is_impossible = _digits(words)
    value, codes = _moments(*(_number(digits[begin:end]) for begin, end in ((0, 4), (4, 6), (6, 8))))
    wrong = is_impossible | (codes > 0)
    return np.where(wrong, 0, value), _unless(wrong)


def _unix32(words: Words) -> tuple[Vector, Codes]:
    return _joined(words) * _SECOND_NS, _good(words)


ENCODINGS = {
    "uint24": Encoding(2, DataType.UINT32, _uint24),
    "int48": Encoding(3, DataType.INT64, _int48),
    "uint48": Encoding(3, DataType.UINT64, _uint48),
    "signmag16": Encoding(1, DataType.INT16, _signed_magnitude),
    "signmag32": Encoding(2, DataType.INT32, _signed_magnitude),
    "bcd16": Encoding(1, DataType.UINT16, _bcd),
    "bcd32": Encoding(2, DataType.UINT32, _bcd),
    "mod10k32": Encoding(2, DataType.INT32, _mod10k),
    "mod10k48": Encoding(3, DataType.INT64, _mod10k),
    "mod10k64": Encoding(4, DataType.INT64, _mod10k),
    "datetime48": Encoding(3, DataType.INT64, _datetime48, TimeKind.LOCAL),
    "datetime64": Encoding(4, DataType.INT64, _datetime64, TimeKind.LOCAL),
    "datetime96": Encoding(6, DataType.INT64, _datetime96, TimeKind.LOCAL),
    "cp56": Encoding(4, DataType.INT64, _cp56, TimeKind.LOCAL),
    "datetime_bcd48": Encoding(3, DataType.INT64, _datetime_bcd, TimeKind.LOCAL),
    "datetime_bcd64": Encoding(4, DataType.INT64, _datetime_bcd, TimeKind.LOCAL),
    "date_bcd32": Encoding(2, DataType.INT64, _date_bcd32, TimeKind.DATE),
    "unix32": Encoding(2, DataType.INT64, _unix32, TimeKind.UTC),
}
