"""Answers to values, a whole scan at once: what an answer looks like is learned once and then compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.ethernetip.replies import Place, Verdict
from drivers.ethernetip.types import LONG_TEXT, SHORT_TEXT, STRUCTURE
from edge.model import DataType, Layout, Vector

Image = NDArray[np.uint8]
NOTHING = bytes(8)
"""Behind the answers in an image: what a tag without a value is read from."""


class Shape:
    """Every byte of an answer that is not data: statuses, types, handles, offsets, sizes."""

    def __init__(self, body: bytes, verdict: Verdict) -> None:
        self.verdict = verdict
        self._mask = np.full(len(body), 0xFF, np.uint8)
        for start, end in verdict.moving:
            self._mask[start:end] = 0
        self._fixed = (np.frombuffer(body, np.uint8) & self._mask).tobytes()

    def fits(self, body: bytes) -> bool:
        """Whether an answer differs from the first one in its data only."""
        return len(body) == len(self._fixed) and (np.frombuffer(body, np.uint8) & self._mask).tobytes() == self._fixed


class Decoder:
    """The compiled layout of the answers to one scan."""

    def __init__(self, layout: Layout, places: Mapping[int, Place], image_bytes: int) -> None:
        """`places` are those of tags that have a value, in the image of all answers."""
        self._columns = tuple(
            _column(data_type, [places.get(int(tag)) for tag in tags], tags, image_bytes)
            for data_type, tags in zip(layout.vector_types, layout.members, strict=True)
        )

    def decode(self, image: bytes) -> tuple[tuple[Vector, ...], tuple[int, ...]]:
        """The vectors of a scan, and the tags whose text is none.

        The vectors are read-only and share nothing with the image, which ends with `NOTHING`.
        """
        data = np.frombuffer(image, np.uint8)
        wrong: list[int] = []
        return tuple(column(data, wrong) for column in self._columns), tuple(wrong)


_Column = Callable[[Image, list[int]], Vector]


def _column(data_type: DataType, places: Sequence[Place | None], tags: NDArray[np.intp], nothing_at: int) -> _Column:
    if data_type is DataType.TEXT:
        return _texts(places, tags)
    at = np.array([nothing_at if place is None else place.at for place in places], np.intp)
    if data_type is DataType.BOOL:
        bits = [None if place is None else place.field.bit for place in places]
        mask = np.array([0xFF if bit is None else 1 << bit for bit in bits], np.uint8)
        return lambda image, wrong: _sealed((image.take(at) & mask).astype(np.bool_))  # noqa: ARG005
    dtype = data_type.numpy
    index = (at[:, None] + np.arange(dtype.itemsize)).ravel()
    return lambda image, wrong: _sealed(image.take(index).view(dtype))  # noqa: ARG005


def _texts(places: Sequence[Place | None], tags: NDArray[np.intp]) -> _Column:
    def decode(image: Image, wrong: list[int]) -> Vector:
        vector = np.full(len(places), "", object)
        for position, place in enumerate(places):
            if place is None:
                continue
            try:
                vector[position] = _text(image[place.at : place.at + place.field.size].tobytes(), place)
            except ValueError:
                wrong.append(int(tags[position]))
        return _sealed(vector)

    return decode


def _text(data: bytes, place: Place) -> str:
    """A text with its length in front, or ValueError."""
    width = {LONG_TEXT: 2, SHORT_TEXT: 1}.get(place.code, 4)
    length = int.from_bytes(data[:width], "little")
    if length > min(place.field.characters, len(data) - width):
        raise ValueError(f"{length} characters in a text of {place.field.characters}")
    if place.code != STRUCTURE and len(data) - width - length > 1:  # One byte may fill it up to a whole word.
        raise ValueError(f"{len(data)} bytes for a text of {length}")
    return data[width : width + length].decode(place.field.encoding)


def _sealed(vector: Vector) -> Vector:
    # An unchanged scan hands out the vectors of the one before: nobody may write into them.
    vector.setflags(write=False)
    return vector
