"""Registers to values, for a whole scan at once: each layout is a gather, a view and at most one byte swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model import DataType, Layout, Vector

Image = NDArray[np.uint8]
"""The data bytes of all answers of a scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where a value is in the image, and how it is encoded.

    Attributes:
        kind: the type as the settings call it, such as float32 or bcd16.
        at: byte of the image where its first register begins, which is even, or the byte of its bit.
        bit: number of a bit, 0 is the least significant; in the byte for a coil, in the register otherwise.
    """

    kind: str
    at: int
    bit: int | None = None
    is_register: bool = True
    half: str | None = None
    characters: int = 0
    is_high_word_first: bool = True
    is_high_byte_first: bool = True
    encoding: str = "ascii"
    padding: str = "any"


class Decoder:
    """Decodes the images of one plan."""

    def __init__(self, layout: Layout, fields: Sequence[Field]) -> None:
        self._columns = tuple(
            _column(data_type, [fields[tag] for tag in tags], tags)
            for data_type, tags in zip(layout.vector_types, layout.members, strict=True)
        )

    def decode(self, image: bytes | bytearray) -> tuple[tuple[Vector, ...], tuple[int, ...]]:
        """The vectors of a scan, and the tags whose registers are not a value of their type.

        The vectors are read-only and share no memory with the image.
        """
        data = np.frombuffer(image, np.uint8)
        undecodable: list[int] = []
        vectors = tuple(column(data, undecodable) for column in self._columns)
        return vectors, tuple(undecodable)


_Column = Callable[[Image, list[int]], Vector]


def _column(data_type: DataType, fields: list[Field], tags: NDArray[np.intp]) -> _Column:
    if data_type is DataType.BOOL:
        return _bits(fields)
    if data_type in (DataType.UINT8, DataType.INT8):
        return _bytes(fields, data_type.numpy)
    if data_type is DataType.TEXT:
        return _texts(fields, tags)
    return _numbers(data_type.numpy, fields, tags)


def _bits(fields: list[Field]) -> _Column:
    where, masks = [], []
    for field in fields:
        bit = field.bit or 0
        where.append(field.at + _byte_in_register(field, is_high=bit > 7) if field.is_register else field.at)
        masks.append(1 << bit % 8)
    index, mask = np.array(where, np.intp), np.array(masks, np.uint8)

    def decode(image: Image, undecodable: list[int]) -> Vector:  # noqa: ARG001
        return _read_only((image.take(index) & mask).astype(np.bool_))

    return decode


def _bytes(fields: list[Field], dtype: np.dtype[np.generic]) -> _Column:
    index = np.array([field.at + _byte_in_register(field, is_high=field.half == "high") for field in fields], np.intp)

    def decode(image: Image, undecodable: list[int]) -> Vector:  # noqa: ARG001
        return _read_only(image.take(index).view(dtype))

    return decode


def _byte_in_register(field: Field, *, is_high: bool) -> int:
    return 0 if is_high == field.is_high_byte_first else 1


def _numbers(dtype: np.dtype[np.generic], fields: list[Field], tags: NDArray[np.intp]) -> _Column:
    """Numbers of one width; the vector is put together from those of each byte order, and of BCD."""
    parts: dict[tuple[bool, bool], list[int]] = {}
    for position, field in enumerate(fields):
        parts.setdefault((field.is_high_byte_first, field.kind.startswith("bcd")), []).append(position)
    gathers = [
        (np.array(positions, np.intp), is_bcd, _gather([fields[p] for p in positions], dtype, is_big=is_big))
        for (is_big, is_bcd), positions in parts.items()
    ]
    if len(gathers) == 1 and not gathers[0][1]:
        gather = gathers[0][2]
        return lambda image, undecodable: _read_only(gather(image))  # noqa: ARG005

    def decode(image: Image, undecodable: list[int]) -> Vector:
        vector = np.empty(len(fields), dtype)
        for positions, is_bcd, gather in gathers:
            values = gather(image)
            if is_bcd:
                values, is_invalid = _from_bcd(values)
                undecodable.extend(tags[positions[is_invalid]].tolist())
            vector[positions] = values
        return _read_only(vector)

    return decode


def _gather(fields: list[Field], dtype: np.dtype[np.generic], *, is_big: bool) -> Callable[[Image], Vector]:
    """Reads the registers of each value, the most significant first for big-endian registers, last for others."""
    width = dtype.itemsize // 2
    rows = [
        range(field.at // 2, field.at // 2 + width)
        if field.is_high_word_first == is_big
        else range(field.at // 2 + width - 1, field.at // 2 - 1, -1)
        for field in fields
    ]
    index = np.array(rows, np.intp).ravel()
    wire = dtype.newbyteorder(">" if is_big else "<")
    first, count = int(index[0]), len(index)
    if np.array_equal(index, np.arange(first, first + count)):
        return lambda image: image[2 * first : 2 * (first + count)].view(wire).astype(dtype)
    return lambda image: image.view(np.uint16).take(index).view(wire).astype(dtype)


def _from_bcd(packed: Vector) -> tuple[Vector, NDArray[np.bool_]]:
    """Values of binary coded decimals, and which of them have an impossible digit."""
    values = np.zeros_like(packed)
    is_invalid = np.zeros(len(packed), np.bool_)
    for digit in range(2 * packed.dtype.itemsize):
        nibble = packed >> (4 * digit) & 0xF
        is_invalid |= nibble > 9
        values += nibble * 10**digit
    values[is_invalid] = 0
    return values, is_invalid


def _texts(fields: list[Field], tags: NDArray[np.intp]) -> _Column:
    def decode(image: Image, undecodable: list[int]) -> Vector:
        vector = np.full(len(fields), "", object)
        for position, field in enumerate(fields):
            try:
                vector[position] = _text(image[field.at : field.at + field.characters + field.characters % 2], field)
            except UnicodeDecodeError:
                undecodable.append(int(tags[position]))
        return _read_only(vector)

    return decode


def _text(registers: Image, field: Field) -> str:
    in_order = registers if field.is_high_byte_first else registers.view(np.uint16).byteswap()
    data = in_order.tobytes()[: field.characters]
    if field.padding in ("any", "nul"):
        data = data.partition(b"\0")[0]
    if field.padding in ("any", "space"):
        data = data.rstrip(b" ")
    return data.decode(field.encoding)


def _read_only(vector: Vector) -> Vector:
    # Read-only, as an unchanged scan returns the vectors of the scan before.
    vector.setflags(write=False)
    return vector
