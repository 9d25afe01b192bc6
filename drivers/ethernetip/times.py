"""Dates, times and durations in answers, and what makes nanoseconds of them.

An answer names its encoding by a code, and the same code has another size on some controllers (CIP Vol 1, appendix
C-6.1; Omron W506, 8-7-1; those of Logix from version 34 on as pycomm3 and libplctag read them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model import TimeKind

_MS, _US, _DAY = 10**6, 10**3, 86_400 * 10**9
_FROM_1972 = 730 * _DAY  # The days of a CIP DATE begin at 1972-01-01.
_ANY = 2**63


@dataclass(frozen=True, slots=True)
class Part:
    """A number in a value: how many nanoseconds one is, and how many ns of it are none of the calendar's."""

    at: int
    dtype: str
    factor: int
    limit: int = _ANY


@dataclass(frozen=True, slots=True)
class TimeEncoding:
    """What a code says in so many bytes: the sum of its parts, in nanoseconds, from `start_ns` on."""

    kind: TimeKind
    size: int
    parts: tuple[Part, ...]
    start_ns: int = 0


def _whole(kind: TimeKind, dtype: str, factor: int, limit: int = _ANY) -> TimeEncoding:
    return TimeEncoding(kind, np.dtype(dtype).itemsize, (Part(0, dtype, factor, limit),))


_CLOCK = Part(0, "<u4", _MS, _DAY)
ENCODINGS: Mapping[int, Sequence[TimeEncoding]] = {
    0xDB: (_whole(TimeKind.DURATION, "<i4", _MS), _whole(TimeKind.DURATION, "<i8", 1)),  # Omron's has 8 bytes.
    0xD6: (_whole(TimeKind.DURATION, "<i4", _US),),
    0xD7: (_whole(TimeKind.DURATION, "<i8", _US),),
    0xD8: (_whole(TimeKind.DURATION, "<i2", _MS),),
    0xDF: (_whole(TimeKind.DURATION, "<i8", 1),),
    0x09: (_whole(TimeKind.DURATION, "<i8", 1),),
    0xCD: (TimeEncoding(TimeKind.DATE, 2, (Part(0, "<u2", _DAY),), _FROM_1972),),
    0x08: (_whole(TimeKind.DATE, "<i8", 1),),
    0xCE: (_whole(TimeKind.TIME_OF_DAY, "<u4", _MS, _DAY),),
    0x0B: (_whole(TimeKind.TIME_OF_DAY, "<u8", 1, _DAY),),
    0xCF: (TimeEncoding(TimeKind.LOCAL, 6, (_CLOCK, Part(4, "<u2", _DAY)), _FROM_1972),),
    0x0A: (_whole(TimeKind.LOCAL, "<i8", 1),),
    0xC0: (_whole(TimeKind.UTC, "<u8", _US),),
    0xCC: (_whole(TimeKind.UTC, "<i8", 1),),
}


def codes_of(kind: TimeKind) -> frozenset[int]:
    """The codes with which a value of this kind comes."""
    return frozenset(code for code, encodings in ENCODINGS.items() if encodings[0].kind is kind)


def encoding_of(code: int, size: int) -> TimeEncoding | None:
    """The encoding of so many bytes with this code; None where it is none."""
    return next((one for one in ENCODINGS.get(code, ()) if one.size == size), None)


class TimeColumn:
    """The values in one encoding in the image of all answers, and their positions in a vector."""

    def __init__(self, encoding: TimeEncoding, positions: Sequence[int], at: Sequence[int]) -> None:
        self._encoding, self._positions = encoding, np.array(positions, np.intp)
        first = np.array(at, np.intp)[:, None]
        self._bytes = [(first + part.at + np.arange(np.dtype(part.dtype).itemsize)).ravel() for part in encoding.parts]

    def fill(self, image: NDArray[np.uint8], vector: NDArray[np.int64]) -> list[int]:
        """Fill them into a vector; the positions of those that are no date or time, which become 0."""
        total = np.full(len(self._positions), self._encoding.start_ns, np.int64)
        is_wrong = np.zeros(len(total), np.bool_)
        for part, index in zip(self._encoding.parts, self._bytes, strict=True):
            number = image.take(index).view(part.dtype)
            is_wrong |= np.abs(number.astype(np.float64)) >= part.limit / part.factor
            total += np.where(is_wrong, 0, number).astype(np.int64) * part.factor
        vector[self._positions] = np.where(is_wrong, 0, total)
        return [int(position) for position in self._positions[is_wrong]]
