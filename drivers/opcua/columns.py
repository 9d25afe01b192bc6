"""Bytes of an answer to values, a whole vector at once: every column is one gather and one view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.opcua.structure import Located
from drivers.opcua.text import Namespaces, text_of
from drivers.opcua.walk import DATE_TIME, Walk
from edge.model import NO_TIME, DataType, StatusCode, Times, Vector

Image = NDArray[np.uint8]
"""The bytes of an answer."""

BAD_OUT_OF_RANGE = 0x803C0000
BAD_ENCODING_LIMITS_EXCEEDED = 0x80080000

_UNIX_EPOCH = 116_444_736_000_000_000  # In 100 ns since 1601 (OPC 10000-6, 5.2.2.5).
_REACH = (2**63 - 1) // 100  # In 100 ns: as far from 1970 as an int64 of nanoseconds tells.


class Field(NamedTuple):
    """Where one tag's value is in an answer, and where it goes.

    Attributes:
        place: (vector, position in it).
        text_bytes: most bytes of a text.
    """

    tag: int
    place: tuple[int, int]
    located: Located
    text_bytes: int


class Column:
    """Values of one vector that are of one built-in type.

    Attributes:
        values: those of the last answer.
        bad: (tag, status) of those that are no value of their type.
    """

    def __init__(self, data: bytes, fields: Sequence[Field], data_type: DataType, namespaces: Namespaces) -> None:
        self.vector = fields[0].place[0]
        self.positions = np.array([field.place[1] for field in fields], np.intp)
        self.bad: tuple[tuple[int, int], ...] = ()
        self._tags = [field.tag for field in fields]
        if data_type is DataType.TEXT:
            self._take = _taking_texts(data, fields)
            self._read: Callable[[bytes, Image], Vector] = _texts(self, fields, namespaces)
        else:
            self._take = _taking([field.located.at for field in fields], data_type.numpy.itemsize)
            is_date = fields[0].located.type == DATE_TIME
            self._read = self._dates if is_date else _numbers(data_type.numpy)
        self._raw = b""
        self.values: Vector = np.empty(0, data_type.numpy)

    def update(self, data: bytes, image: Image) -> bool:
        """Take the values of another answer of the same layout; whether any is another than before."""
        raw = self._take(image)
        raw_bytes = raw.tobytes()
        if raw_bytes == self._raw and len(self.values):
            return False
        self.values = self._read(data, raw)
        self._raw = raw_bytes
        return True

    def refuse(self, bad: Sequence[tuple[int, int]]) -> None:
        """Note (position in this column, status) of what is no value."""
        self.bad = tuple((self._tags[position], code) for position, code in bad)

    def _dates(self, data: bytes, raw: Image) -> Vector:  # noqa: ARG002
        dates = unix_ns(raw.view("<i8"))
        wrong = np.flatnonzero(dates == NO_TIME)
        dates[wrong] = 0
        self.refuse([(int(position), BAD_OUT_OF_RANGE) for position in wrong])
        return dates


class SourceTimes:
    """When the server says the values were taken.

    Attributes:
        order: where each time belongs, with all vectors one behind the other.
    """

    def __init__(self, order: Sequence[int], starts: Sequence[int]) -> None:
        self.order = np.array(order, np.intp)
        self._take = _taking(starts, 8)
        self._raw = b""
        self.times: Times = np.empty(0, np.int64)

    def update(self, image: Image) -> bool:
        """Take the times of another answer of the same layout; whether any is another than before."""
        raw = self._take(image)
        raw_bytes = raw.tobytes()
        if raw_bytes == self._raw:
            return False
        self._raw, self.times = raw_bytes, unix_ns(raw.view("<i8"))
        return True


def unix_ns(file_times: NDArray[np.int64]) -> Times:
    """UTC nanoseconds of times in 100 ns since 1601; `NO_TIME` where there is none, or one too far from now."""
    since_1970 = file_times - _UNIX_EPOCH
    if len(file_times) and file_times.min() > _UNIX_EPOCH and since_1970.max() <= _REACH:
        return since_1970 * 100
    is_told = (file_times > 0) & (since_1970 <= _REACH) & (since_1970 >= -_REACH)
    return np.where(is_told, since_1970 * 100, NO_TIME)


def unix_time_ns(file_time: int) -> int | None:
    """The same of one time; None where there is none."""
    since_1970 = file_time - _UNIX_EPOCH
    return since_1970 * 100 if file_time > 0 and abs(since_1970) <= _REACH else None


def _taking(starts: Sequence[int], width: int) -> Callable[[Image], Image]:
    """Takes so many bytes from each place; where these are equally far apart, no list of them is needed."""
    apart = np.diff(starts)
    if len(apart) and apart[0] >= width and (apart == apart[0]).all():
        items, first, stride = np.dtype((np.void, width)), starts[0], int(apart[0])
        return lambda image: np.ndarray(len(starts), items, image, first, (stride,)).copy().view(np.uint8)
    index = (np.array(starts, np.intp)[:, None] + np.arange(width, dtype=np.intp)).ravel()
    return lambda image: image.take(index)


def _taking_texts(data: bytes, fields: Sequence[Field]) -> Callable[[Image], Image]:
    spans = []
    for field in fields:
        walk = Walk(data, field.located.at)
        walk.value(field.located.type)
        spans.append(np.arange(field.located.at, walk.at, dtype=np.intp))
    index = np.concatenate(spans)
    return lambda image: image.take(index)


def _numbers(dtype: np.dtype[np.generic]) -> Callable[[bytes, Image], Vector]:
    if dtype == np.bool_:
        return lambda _, raw: raw != 0
    wire = dtype.newbyteorder("<")
    return lambda _, raw: raw.view(wire).astype(dtype, copy=False)


def _texts(column: Column, fields: Sequence[Field], namespaces: Namespaces) -> Callable[[bytes, Image], Vector]:
    def read(data: bytes, raw: Image) -> Vector:  # noqa: ARG001
        values = np.full(len(fields), "", object)
        bad: list[tuple[int, int]] = []
        for position, field in enumerate(fields):
            try:
                text = text_of(data, field.located.at, field.located.type, namespaces)
            except UnicodeDecodeError:
                bad.append((position, StatusCode.BAD_DECODING_ERROR))
                continue
            if len(text.encode()) > field.text_bytes:
                bad.append((position, BAD_ENCODING_LIMITS_EXCEEDED))
            else:
                values[position] = text
        column.refuse(bad)
        return values

    return read
