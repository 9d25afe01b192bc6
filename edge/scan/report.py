"""Report by exception: what of a scan is worth sealing, decided for whole vectors at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.model import (
    CatalogueGroup,
    DataType,
    Reading,
    SampleBlock,
    StatusCode,
    StatusRun,
    Vector,
    status_codes,
    status_runs,
)
from edge.scan.column import Column, Mask

_POSITION_BYTES = 2
_TEXT_BYTES = 16  # A guess, to weigh a changes block against a complete one.
_BAD = 0x80000000
_NOWHERE = np.empty(0, np.uint16)
_NEVER = np.empty(0, np.int64)


class Reporter:
    """Turns the readings of one scan group into sample blocks, one block a reading.

    Whoever keeps what was last reported of each tag is wrong by at most its deadband (for as long as `at_most_every`
    holds a report back, by what moved meanwhile), knows every change of status, and has nothing older than
    `at_least_every`.

    Attributes:
        status: the tags of the last reading that are not GOOD, values out of range included.
    """

    def __init__(self, number: int, group: CatalogueGroup) -> None:
        self._number = number
        self._layout = layout = group.layout
        self._columns = tuple(
            Column(data_type, [group.tags[tag] for tag in members], group.interval_ns)
            for data_type, members in zip(layout.vector_types, layout.members, strict=True)
        )
        self._interval_ns = group.interval_ns
        self._is_every_change = all(column.is_every_change for column in self._columns)
        sizes = [_value_bytes(data_type) for data_type in layout.vector_types]
        self._change_bytes = [_POSITION_BYTES + size for size in sizes]
        self._complete_bytes = sum(size * len(tags) for size, tags in zip(sizes, layout.members, strict=True))
        self._no_vectors: tuple[Vector, ...] = tuple(np.empty(0, t.numpy) for t in layout.vector_types)
        self._no_positions = (_NOWHERE,) * len(self._columns)
        self._no_times = (_NEVER,) * len(self._columns)
        self._no_masks: tuple[Mask | None, ...] = (None,) * len(self._columns)
        self._vectors: tuple[Vector, ...] | None = None
        self._answered_status: tuple[StatusRun, ...] | None = ()
        self._codes = np.zeros(len(layout), np.uint32)
        self._bad: tuple[Mask | None, ...] = self._no_masks
        self._needs_all = True
        self.status: tuple[StatusRun, ...] = ()

    def refresh(self) -> None:
        """Report every tag with the next reading."""
        self._needs_all = True

    def lost(self, asked_at_ns: int, answered_at_ns: int) -> SampleBlock:
        """The block that says that no tag can be read any more; the next reading is reported completely."""
        self._needs_all = True
        self._answered_status = None
        self.status = ((0, len(self._layout), int(StatusCode.BAD_NO_COMMUNICATION)),)
        return SampleBlock(self._number, asked_at_ns, answered_at_ns, self._no_vectors, self._no_positions, self.status)

    def block(self, reading: Reading) -> SampleBlock:
        """What is to be sealed of this reading; when nothing is to be reported, that the scan took place."""
        changed = self._judge(reading)
        is_same, self._vectors = reading.vectors is self._vectors, reading.vectors
        if self._needs_all:
            return self._complete(reading)
        if is_same and changed is None and self._is_every_change and not self._is_due(reading.asked_at_ns):
            return self._changes(reading, self._no_masks)
        masks = [
            _combine(column.wanted(values, reading.asked_at_ns), change, bad)
            for column, values, change, bad in zip(
                self._columns, reading.vectors, changed or self._no_masks, self._bad, strict=True
            )
        ]
        weight = sum(
            int(np.count_nonzero(mask)) * size
            for mask, size in zip(masks, self._change_bytes, strict=True)
            if mask is not None
        )
        return self._complete(reading) if weight >= self._complete_bytes else self._changes(reading, masks)

    def _is_due(self, now_ns: int) -> bool:
        return any(now_ns + self._interval_ns > column.refresh_ns for column in self._columns)

    def _judge(self, reading: Reading) -> tuple[Mask | None, ...] | None:
        """Bring `status` up to date; the tags whose status is another than before, or None."""
        crossed = [c.has_crossed_range(values) for c, values in zip(self._columns, reading.vectors, strict=True)]
        if reading.status == self._answered_status and not any(crossed):
            return None
        self._answered_status = reading.status
        codes = status_codes(reading.status, len(self._layout))
        for column, members in zip(self._columns, self._layout.members, strict=True):
            if column.outside is not None:
                outside = members[column.outside]
                codes[outside[codes[outside] == StatusCode.GOOD]] = StatusCode.UNCERTAIN_OUT_OF_RANGE
        before, self._codes = self._codes, codes
        self._bad = self._by_column(codes >= _BAD)
        self.status = status_runs(codes)
        return self._by_column(codes != before)

    def _by_column(self, tags: NDArray[np.bool_]) -> tuple[Mask | None, ...]:
        return tuple(tags[members] for members in self._layout.members) if tags.any() else self._no_masks

    def _complete(self, reading: Reading) -> SampleBlock:
        self._needs_all = False
        for column, values in zip(self._columns, reading.vectors, strict=True):
            column.take_all(values, reading.asked_at_ns)
        return SampleBlock(
            self._number, reading.asked_at_ns, reading.answered_at_ns, reading.vectors, None, self.status,
            reading.source_times,
        )  # fmt: skip

    def _changes(self, reading: Reading, masks: Sequence[Mask | None]) -> SampleBlock:
        vectors, positions, times = list(self._no_vectors), list(self._no_positions), list(self._no_times)
        source_times = reading.source_times
        for v, mask in enumerate(masks):
            if mask is not None:
                places = np.flatnonzero(mask)
                vectors[v], positions[v] = reading.vectors[v][places], places.astype(np.uint16)
                self._columns[v].take(places, vectors[v], reading.asked_at_ns)
                if source_times is not None:
                    times[v] = source_times[v][places]
        return SampleBlock(
            self._number, reading.asked_at_ns, reading.answered_at_ns, tuple(vectors), tuple(positions), self.status,
            None if source_times is None else tuple(times),
        )  # fmt: skip


def _combine(wanted: Mask | None, changed: Mask | None, bad: Mask | None) -> Mask | None:
    """What moved or changed its status and has a value to report; None where nothing has."""
    if changed is not None:
        wanted = changed if wanted is None else wanted | changed
    if bad is not None and wanted is not None:
        wanted = wanted & ~bad
    return wanted


def _value_bytes(data_type: DataType) -> int:
    return _TEXT_BYTES if data_type is DataType.TEXT else data_type.numpy.itemsize
