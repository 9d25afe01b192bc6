"""Values as files show them: in their units or raw, exact, with status in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.model import CatalogueGroup, CatalogueTag, Quality, StatusCode, Vector, text_of
from edge.relay.json_columns import Units
from edge.relay.reading_columns import Column

LONG = ("time", "corrected_time", "bound_ns", "corrected_bound_ns", "gateway", "device", "tag", "value", "value_text",
        "label", "unit", "type", "quality", "status", "source_time", "unknown", "verdict", "epoch", "seq", "block",
        "row", "context", "context_before")  # fmt: skip
"""The columns of a file with a row for each value."""

QUALITY_WORDS = {Quality.GOOD: "good", Quality.UNCERTAIN: "uncertain", Quality.BAD: "bad"}
_EXACT = 2**53  # Every integer up to it is a float64.

Wanted = Callable[[str, str], bool]
"""Whether readings of a tag are wanted, by device and name."""


class Shown(NamedTuple):
    """Values of a column.

    Attributes:
        tags: their numbers in the scan group.
        numbers: of those that have one; of others without meaning.
        has_number: whether a value is a number.
        texts: by position, what is no number, and what no float64 can say.
        labels: by position, the text that the catalogue has for a number.
        codes: the status codes.
        times: the times that the device gave them; None where it gives none.
        is_later: whether only a later version knows what the values mean.
    """

    tags: NDArray[np.intp]
    numbers: Vector
    has_number: NDArray[np.bool_]
    texts: dict[int, str]
    labels: dict[int, str]
    codes: NDArray[np.uint32]
    times: NDArray[np.int64] | None
    is_later: bool


class GroupValues:
    """The values of one scan group under one catalogue.

    Attributes:
        wanted: those of its tags that are.
        is_wanted: the same for each tag.
        is_plain: whether the unit of a tag is that of its raw values.
    """

    def __init__(self, group: CatalogueGroup, wanted: Wanted, *, is_raw: bool) -> None:
        self.group = group
        self._units = None if is_raw else Units(group)
        self.is_wanted = np.array([wanted(group.device, tag.name) for tag in group.tags], np.bool_)
        self.wanted = [tag for tag, is_wanted in zip(group.tags, self.is_wanted, strict=True) if is_wanted]
        self.is_plain = np.array([(tag.scale, tag.offset, tag.scale_tag) == (1, 0, "") for tag in group.tags], np.bool_)
        self._has_labels = np.array([bool(tag.texts) for tag in group.tags], np.bool_)

    def unit(self, tag: CatalogueTag) -> str:
        """The unit of the values that are shown."""
        is_as_read = (tag.scale, tag.offset, tag.scale_tag) == (1, 0, "")
        return tag.unit if is_as_read or self._units is not None else ""

    def shown_block(self, columns: tuple[Column, ...]) -> Iterator[Shown]:
        """The wanted values of a block."""
        self.learn_scales(columns)
        for column in columns:
            column = column.kept(self.is_wanted[column.tags])
            if len(column.tags):
                yield self.shown(column)

    def learn_scales(self, columns: tuple[Column, ...]) -> None:
        """Take the scales that are values themselves: a block has them with the values that they are of."""
        if self._units is not None:
            self._units.learn_block(columns)

    def shown(self, column: Column) -> Shown:
        """These values, by the scales that were learned last."""
        raw, tags, is_known, codes = column.raw, column.tags, column.is_known, column.codes
        is_later = not column.data_type.is_known
        if raw.dtype == object:
            texts = {} if is_later else {at: raw[at] for at in is_known.nonzero()[0].tolist()}
            none = np.zeros(len(raw), np.bool_)
            return Shown(tags, np.zeros(len(raw)), none, texts, {}, codes, column.times, is_later)
        numbers, has_number, texts = raw, is_known, {}
        is_converted = np.zeros(len(raw), np.bool_)
        if self._units is not None and raw.dtype != np.bool_:
            numbers, is_converted, is_time = self._units.numbers(raw, tags)
            has_number = is_known & ~is_time
            for at in (is_known & is_time).nonzero()[0].tolist():
                kind = self.group.tags[tags[at]].time_kind
                assert kind is not None
                texts[at] = kind.text(int(raw[at]))
        if raw.dtype.kind in "iu" and raw.dtype.itemsize == 8:
            is_beyond = (raw > _EXACT) | (raw < -_EXACT) if raw.dtype.kind == "i" else raw > _EXACT
            texts |= {at: str(raw[at]) for at in (is_beyond & has_number & ~is_converted).nonzero()[0].tolist()}
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            is_odd = ~np.isfinite(numbers)
            texts |= {at: _odd_text(numbers[at]) for at in (is_odd & has_number).nonzero()[0].tolist()}
            codes = np.where(is_odd & (codes < StatusCode.UNCERTAIN), StatusCode.UNCERTAIN_OUT_OF_RANGE, codes).astype(
                np.uint32
            )
        labels = {}
        for at in (self._has_labels[tags] & has_number).nonzero()[0].tolist():
            if label := text_of(numbers[at], self.group.tags[tags[at]].texts):
                labels[at] = label
        return Shown(tags, numbers, has_number, texts, labels, codes, column.times, is_later)


def _odd_text(number: float) -> str:
    return "NaN" if np.isnan(number) else "Infinity" if number > 0 else "-Infinity"
