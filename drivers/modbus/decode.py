"""Registers to values, for a whole scan at once: each layout is a gather, a view and at most one byte swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.modbus.encodings import ENCODINGS, Words
from edge.model import EXPONENT_LIMIT, DataType, Layout, StatusCode, Vector

Image = NDArray[np.uint8]
"""The data bytes of all answers of a scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where a value is in the image, and how it is encoded.

    Attributes:
        kind: the type as the settings call it, such as float32 or bcd16.
        at: byte of the image where its first register begins, which is even, or the byte of its bit.
        bit: number of a bit, 0 is the least significant; in the byte for a coil, in the register otherwise.
        bits: how many bits of the register, from `bit` on, are one number.
        invalid: values that mean that the device has none.
        scale: number of the tag that gives its power of ten.
    """

    kind: str
    at: int
    bit: int | None = None
    bits: int = 1
    is_register: bool = True
    half: str | None = None
    characters: int = 0
    is_high_word_first: bool = True
    is_high_byte_first: bool = True
    encoding: str = "ascii"
    padding: str = "any"
    invalid: tuple[float, ...] = ()
    scale: int | None = None


Faults = list[tuple[int, int]]
"""Tags whose registers are not a value, and the status of each; of two for one tag the first counts."""


class Decoder:
    """Decodes the images of one plan."""

    def __init__(self, layout: Layout, fields: Sequence[Field]) -> None:
        members = [(tags, [fields[tag] for tag in tags]) for tags in layout.members]
        self._columns = tuple(
            _column(data_type, held, tags) for data_type, (tags, held) in zip(layout.vector_types, members, strict=True)
        )
        scaled = [(layout.slots[field.scale], tag) for tag, field in enumerate(fields) if field.scale is not None]
        self._scaled = [
            (
                number,
                np.array([position for (vector, position), _ in scaled if vector == number], np.intp),
                np.array([tag for (vector, _), tag in scaled if vector == number], np.intp),
            )
            for number in sorted({vector for (vector, _), _ in scaled})
        ]
        self._unavailable = [
            (number, _unavailable(data_type, held, tags))
            for number, (data_type, (tags, held)) in enumerate(zip(layout.vector_types, members, strict=True))
            if any(field.invalid for field in held)
        ]

    def decode(self, image: bytes | bytearray) -> tuple[tuple[Vector, ...], tuple[tuple[int, int], ...]]:
        """The vectors of a scan, and the `Faults` in it.

        The vectors are read-only and share no memory with the image.
        """
        data = np.frombuffer(image, np.uint8)
        faults: Faults = []
        vectors = tuple(column(data, faults) for column in self._columns)
        for number, note in self._unavailable:
            note(vectors[number], faults)
        for number, scales, tags in self._scaled:
            found = vectors[number][scales]
            wrong = (found < -EXPONENT_LIMIT) | (found > EXPONENT_LIMIT)
            faults.extend((tag, int(StatusCode.BAD_DECODING_ERROR)) for tag in tags[wrong].tolist())
        return vectors, tuple(faults)


_Column = Callable[[Image, Faults], Vector]


def _column(data_type: DataType, fields: list[Field], tags: NDArray[np.intp]) -> _Column:
    if data_type is DataType.BOOL:
        return _bits(fields)
    if data_type in (DataType.UINT8, DataType.INT8):
        return _bytes(fields, data_type.numpy)
    if data_type is DataType.TEXT:
        return _texts(fields, tags)
    return _numbers(data_type.numpy, fields, tags)


def _unavailable(data_type: DataType, fields: list[Field], tags: NDArray[np.intp]) -> Callable[[Vector, Faults], None]:
    """Notes the tags of a vector that have a value of those that mean that there is none."""
    pairs = [(position, value) for position, field in enumerate(fields) for value in field.invalid]
    positions = np.array([position for position, _ in pairs], np.intp)
    values = np.array([value for _, value in pairs], data_type.numpy)
    is_nan = values != values

    def note(vector: Vector, faults: Faults) -> None:
        found = vector[positions]
        hits = positions[(found == values) | (is_nan & (found != found))]
        faults.extend((tag, int(StatusCode.BAD_NO_DATA)) for tag in tags[hits].tolist())

    return note


def _bits(fields: list[Field]) -> _Column:
    where, masks = [], []
    for field in fields:
        bit = field.bit or 0
        where.append(field.at + _byte_in_register(field, is_high=bit > 7) if field.is_register else field.at)
        masks.append(1 << bit % 8)
    index, mask = np.array(where, np.intp), np.array(masks, np.uint8)

    def decode(image: Image, faults: Faults) -> Vector:  # noqa: ARG001
        return _read_only((image.take(index) & mask).astype(np.bool_))

    return decode


def _bytes(fields: list[Field], dtype: np.dtype[np.generic]) -> _Column:
    index = np.array([field.at + _byte_in_register(field, is_high=field.half == "high") for field in fields], np.intp)

    def decode(image: Image, faults: Faults) -> Vector:  # noqa: ARG001
        return _read_only(image.take(index).view(dtype))

    return decode


def _byte_in_register(field: Field, *, is_high: bool) -> int:
    return 0 if is_high == field.is_high_byte_first else 1


def _numbers(dtype: np.dtype[np.generic], fields: list[Field], tags: NDArray[np.intp]) -> _Column:
    """Numbers of one width; the vector is put together from those of each byte order and encoding."""
    parts: dict[tuple[bool, str], list[int]] = {}
    for position, field in enumerate(fields):
        encoding = field.kind if field.kind in ENCODINGS else "bits" if field.bits > 1 else ""
        parts.setdefault((field.is_high_byte_first, encoding), []).append(position)
    if len(parts) == 1 and not next(iter(parts))[1]:
        gather = _gather(fields, dtype, is_big=fields[0].is_high_byte_first)
        return lambda image, faults: _read_only(gather(image))  # noqa: ARG005
    columns = [
        (np.array(positions, np.intp), _part(encoding, [fields[p] for p in positions], dtype, tags[positions], is_big))
        for (is_big, encoding), positions in parts.items()
    ]

    def decode(image: Image, faults: Faults) -> Vector:
        vector = np.empty(len(fields), dtype)
        for positions, column in columns:
            vector[positions] = column(image, faults)
        return _read_only(vector)

    return decode


def _part(
    encoding: str, fields: list[Field], dtype: np.dtype[np.generic], tags: NDArray[np.intp], is_big: bool
) -> _Column:
    """Numbers of one width, byte order and encoding."""
    if not encoding:
        gather = _gather(fields, dtype, is_big=is_big)
        return lambda image, faults: gather(image)  # noqa: ARG005
    if encoding == "bits":
        words = _gather_words(fields, 1, is_big=is_big)
        shift, mask = np.array([field.bit for field in fields]), np.array([(1 << field.bits) - 1 for field in fields])
        return lambda image, faults: words(image)[:, 0] >> shift & mask  # noqa: ARG005
    known = ENCODINGS[encoding]
    rows = _gather_words(fields, known.registers, is_big=is_big)

    def decode(image: Image, faults: Faults) -> Vector:
        values, codes = known.decode(rows(image))
        if codes.any():
            faults.extend((int(tags[at]), int(codes[at])) for at in np.flatnonzero(codes))
        return values

    return decode


def _gather_words(fields: list[Field], width: int, *, is_big: bool) -> Callable[[Image], Words]:
    """Reads the registers of each value as a row of numbers, the most significant first."""
    index = np.array([range(field.at // 2, field.at // 2 + width)[:: 1 if field.is_high_word_first else -1]
                      for field in fields], np.intp)  # fmt: skip
    wire = np.dtype(">u2" if is_big else "<u2")
    return lambda image: image.view(wire).take(index).astype(np.int64)


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


def _texts(fields: list[Field], tags: NDArray[np.intp]) -> _Column:
    def decode(image: Image, faults: Faults) -> Vector:
        vector = np.full(len(fields), "", object)
        for position, field in enumerate(fields):
            try:
                vector[position] = _text(image[field.at : field.at + field.characters + field.characters % 2], field)
            except UnicodeDecodeError:
                faults.append((int(tags[position]), int(StatusCode.BAD_DECODING_ERROR)))
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
