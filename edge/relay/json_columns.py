"""Values in their unit as JSON, many at once: the same that `in_unit` and `json_value` say of one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from edge.model import CatalogueGroup, TimeKind, Vector, in_unit, power_of_ten
from edge.relay.reading_columns import Column

_WIDE = (np.int64, np.uint64)
_DIGITS = 15
# Powers of ten up to the 22nd are exact in a float64.
_DECADES = np.array([float(f"1e{exponent}") for exponent in range(_DIGITS - 1 - 22, _DIGITS + 1)])
_POWERS = np.array([1e22, *(float(f"1e{exponent}") for exponent in range(22, -1, -1)), 1.0])


def scaled(values: NDArray[np.float64], scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value times its scale, plus its offset, to 15 significant digits as `in_unit` rounds one."""
    with np.errstate(all="ignore"):
        exact = values * scale + offset
        size = np.abs(exact)
        power = _POWERS[_DECADES.searchsorted(size, "right")]
        digits = exact * power
        whole = np.rint(digits)
        found: NDArray[np.float64] = whole / power
        size *= power
        # The product is off by less than 0.07 where it has 15 digits. A tie, or another size, is for the exact way.
        is_sure = (np.abs(digits - whole) < 0.4) & (size >= 10 ** (_DIGITS - 1)) & (size < 10**_DIGITS)
        is_sure |= (exact == 0) | ~np.isfinite(exact)
    for at in (~is_sure).nonzero()[0].tolist():
        found[at] = float(f"{exact[at]:.{_DIGITS}g}")
    return found


def json_texts(values: Vector) -> list[bytes]:
    """Each value as JSON: null where it is NaN or infinite, a text where an integer has 64 bits."""
    if values.dtype == object:
        return list(map(orjson.dumps, values))
    if not len(values):
        return []
    texts = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    return [b'"%b"' % text for text in texts] if values.dtype in _WIDE else texts


def shortest(raw: Vector) -> NDArray[np.float64]:
    """Numbers as float64: of a float32 the one with the fewest digits that is the same float32."""
    if raw.dtype != np.float32:
        return raw.astype(np.float64)
    # A float32 has about seven digits; as a float64 it would have those of the conversion too.
    found = np.array(orjson.loads(orjson.dumps(raw, option=orjson.OPT_SERIALIZE_NUMPY)), np.float64)
    is_finite = np.isfinite(raw)  # Others are null in JSON.
    return found if is_finite.all() else np.where(is_finite, found, raw.astype(np.float64))


class Units:
    """The units of the tags of one scan group: from raw values to JSON."""

    def __init__(self, group: CatalogueGroup) -> None:
        tags = group.tags
        self._layout = group.layout
        self._scales = group.scales
        self._scale = np.array([tag.scale for tag in tags], np.float64)
        self._offset = np.array([tag.offset for tag in tags], np.float64)
        is_number = np.array([tag.data_type.is_number for tag in tags], np.bool_)
        has_scale_tag = np.array([bool(tag.scale_tag) for tag in tags], np.bool_)
        self._scale[has_scale_tag] = np.nan  # Not known until the scale is: NaN is shown as no value.
        is_time = [tag.time_kind not in (None, TimeKind.DURATION) for tag in tags]
        self._is_time = is_number & np.array(is_time, np.bool_)
        self._time_kinds = [tag.time_kind for tag in tags]
        self._may_convert = is_number & ~self._is_time
        self._find_converted()

    def learn_scales(self, vectors: Sequence[Vector], is_known: NDArray[np.bool_]) -> None:
        """Take the scales that are values themselves from the values of the group."""
        scaled, scales = self._scales
        if not len(scaled):
            return
        for tag, scale in zip(scaled.tolist(), scales.tolist(), strict=True):
            vector, position = self._layout.slots[scale]
            self._scale[tag] = power_of_ten(vectors[vector][position]) if is_known[scale] else np.nan
        self._find_converted()

    def learn_block(self, columns: Iterable[Column]) -> None:
        """The same from the columns of one block: it has with each value its scale, so none is kept from before."""
        if not len(self._scales[0]):
            return
        vectors, is_known = self._layout.empty(), np.zeros(len(self._layout), np.bool_)
        for column in columns:
            vector = vectors[self._layout.vector_types.index(column.data_type)]
            vector[[self._layout.slots[tag][1] for tag in column.tags.tolist()]] = column.raw
            is_known[column.tags] = column.is_known
        self.learn_scales(vectors, is_known)

    def json_texts(self, raw: Vector, tags: NDArray[np.intp]) -> tuple[list[bytes], NDArray[np.bool_]]:
        """Values of one vector, each of the tag beside it, as JSON; and which of them are finite."""
        is_finite = np.isfinite(raw) if raw.dtype.kind == "f" else np.ones(len(raw), np.bool_)
        if raw.dtype not in self._special_types:
            return json_texts(raw), is_finite
        is_converted, is_time = self._is_converted[tags], self._is_time[tags]
        if is_converted.all():
            values = self._converted(raw, tags)
            return json_texts(values), np.isfinite(values)
        is_plain = ~(is_converted | is_time)
        values = self._converted(raw[is_converted], tags[is_converted])
        is_finite[is_converted] = np.isfinite(values)
        texts = np.empty(len(raw), object)
        texts[is_converted] = json_texts(values)
        texts[is_plain] = json_texts(raw[is_plain])
        for at in is_time.nonzero()[0].tolist():
            texts[at] = orjson.dumps(in_unit(raw[at], time_kind=self._time_kinds[tags[at]]))
        return texts.tolist(), is_finite

    def numbers(self, raw: Vector, tags: NDArray[np.intp]) -> tuple[Vector, NDArray[np.bool_], NDArray[np.bool_]]:
        """Values of one vector of numbers, each of the tag beside it, in their units; and which of them are converted,
        and which stay raw because they are dates or times. They are float64 where one of them is converted."""
        is_converted, is_time = self._is_converted[tags], self._is_time[tags]
        if not is_converted.any():
            return raw, is_converted, is_time
        values = shortest(raw)
        values[is_converted] = self._converted(raw[is_converted], tags[is_converted])
        return values, is_converted, is_time

    def _find_converted(self) -> None:
        self._is_converted = self._may_convert & ((self._scale != 1) | (self._offset != 0))
        special = (self._is_converted | self._is_time).nonzero()[0].tolist()
        self._special_types = {self._layout.types[tag].numpy for tag in special}

    def _converted(self, raw: Vector, tags: NDArray[np.intp]) -> NDArray[np.float64]:
        return scaled(shortest(raw), self._scale[tags], self._offset[tags])
