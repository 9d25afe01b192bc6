"""Report by exception: which values of a scan are sealed, decided for whole vectors at once.

Deadband and range are converted to raw units once. Values are compared as the device sent them and in their own type,
so nothing is scaled, converted or rounded scan by scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.model import (
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Reading,
    SampleBlock,
    StatusCode,
    StatusRun,
    Vector,
    status_codes,
    status_runs,
)

Mask = NDArray[np.bool_]
"""Selects tags of a vector."""
Places = NDArray[np.uint16] | slice

_POSITION_BYTES = 2
_TEXT_BYTES = 16  # An estimate, to weigh a block of changes against a complete one.
_BAD = 0x80000000
_NOWHERE = np.empty(0, np.uint16)
_NEVER = np.empty(0, np.int64)
_ROUNDING = 1e-12  # 0.3 / 0.1 is a little less than 3 and means 3.
_JITTER_SHARE = 10  # A report that comes a tenth of an interval early is on time.


class Reporter:
    """Turns the readings of one scan group into sample blocks, one block for each reading.

    The last reported value of each tag is wrong by at most its deadband (and, while `at_most_every` holds a report
    back, by what has changed since), every change of status is reported, and no reported value is older than
    `at_least_every`.

    Attributes:
        number: of the scan group.
        status: the tags of the last reading that are not GOOD, values out of range included.
    """

    def __init__(self, number: int, group: CatalogueGroup) -> None:
        self.number = number
        self._layout = layout = group.layout
        self._columns = tuple(
            Column(data_type, [group.tags[tag] for tag in members], group.interval_ns)
            for data_type, members in zip(layout.vector_types, layout.members, strict=True)
        )
        self._scales = group.scales
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

    def lost_block(self, asked_at_ns: int, answered_at_ns: int) -> SampleBlock:
        """The block that marks every tag BAD because the device is lost; the next reading is reported completely."""
        self._needs_all = True
        self._answered_status = None
        self.status = ((0, len(self._layout), int(StatusCode.BAD_NO_COMMUNICATION)),)
        return SampleBlock(self.number, asked_at_ns, answered_at_ns, self._no_vectors, self._no_positions, self.status)

    def report(self, reading: Reading) -> SampleBlock:
        """The block to seal of this reading; where no tag has to be reported, a block without values."""
        is_same, self._vectors = reading.vectors is self._vectors, reading.vectors
        changed = self._update_status(reading, is_same=is_same)
        if self._needs_all:
            return self._complete(reading)
        if is_same and changed is None and self._is_every_change and not self._is_due(reading.asked_at_ns):
            return self._changes(reading, self._no_masks)
        masks = [
            _combine(column.select(values, reading.asked_at_ns), change, bad)
            for column, values, change, bad in zip(
                self._columns, reading.vectors, changed or self._no_masks, self._bad, strict=True
            )
        ]
        if len(self._scales[0]):
            masks = self._with_scales(masks)
        weight = sum(
            int(np.count_nonzero(mask)) * size
            for mask, size in zip(masks, self._change_bytes, strict=True)
            if mask is not None
        )
        return self._complete(reading) if weight >= self._complete_bytes else self._changes(reading, masks)

    def _with_scales(self, masks: Sequence[Mask | None]) -> list[Mask | None]:
        """With every value that is reported its scale, so that a block says what its values are, and with a scale that
        has moved every value of it."""
        reported = np.zeros(len(self._layout), np.bool_)
        for members, mask in zip(self._layout.members, masks, strict=True):
            if mask is not None:
                reported[members] = mask
        scaled, scales = self._scales
        reported[scaled] |= reported[scales]
        reported[scales[reported[scaled]]] = True
        by_column = (reported[members] for members in self._layout.members)
        return [_combine(mask, None, bad) for mask, bad in zip(by_column, self._bad, strict=True)]

    def _is_due(self, now_ns: int) -> bool:
        return any(now_ns + self._interval_ns > column.refresh_ns for column in self._columns)

    def _update_status(self, reading: Reading, *, is_same: bool) -> tuple[Mask | None, ...] | None:
        """Update `status`; returns the tags whose status has changed, None where no input of it has."""
        has_crossed = False
        if not is_same:
            for column, values in zip(self._columns, reading.vectors, strict=True):
                has_crossed |= column.update_outside(values)
        if reading.status == self._answered_status and not has_crossed:
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
            column.mark_all_reported(values, reading.asked_at_ns)
        return SampleBlock(
            self.number, reading.asked_at_ns, reading.answered_at_ns, reading.vectors, None, self.status,
            reading.source_times,
        )  # fmt: skip

    def _changes(self, reading: Reading, masks: Sequence[Mask | None]) -> SampleBlock:
        vectors, positions, times = list(self._no_vectors), list(self._no_positions), list(self._no_times)
        source_times = reading.source_times
        for v, mask in enumerate(masks):
            if mask is not None:
                selected = np.flatnonzero(mask)
                vectors[v], positions[v] = reading.vectors[v][selected], selected.astype(np.uint16)
                self._columns[v].mark_reported(selected, vectors[v], reading.asked_at_ns)
                if source_times is not None:
                    times[v] = source_times[v][selected]
        return SampleBlock(
            self.number, reading.asked_at_ns, reading.answered_at_ns, tuple(vectors), tuple(positions), self.status,
            None if source_times is None else tuple(times),
        )  # fmt: skip


def _combine(wanted: Mask | None, changed: Mask | None, bad: Mask | None) -> Mask | None:
    """The tags that moved or changed their status and have a value to report; None where there are none."""
    if changed is not None:
        wanted = changed if wanted is None else wanted | changed
    if bad is not None and wanted is not None:
        wanted = wanted & ~bad
    return wanted


def _value_bytes(data_type: DataType) -> int:
    return _TEXT_BYTES if data_type is DataType.TEXT else data_type.numpy.itemsize


class Column:
    """The tags of one data type of a scan group: their last reported values, and which have to be reported now.

    Attributes:
        is_every_change: any change of any tag is reported at once.
        refresh_ns: boot time before which no unmoved tag has to be reported again.
        outside: the tags whose latest value is out of its range, or NaN or infinite; None where there are none.
    """

    def __init__(self, data_type: DataType, tags: Sequence[CatalogueTag], interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._jitter_ns = interval_ns // _JITTER_SHARE
        self._is_float = data_type.numpy.kind == "f"
        is_number = data_type.is_number
        has_deadband = is_number and any(tag.deadband for tag in tags)
        self._deadband = _raw_deadbands(data_type, tags) if has_deadband else None
        self._inside = inside_of(data_type, tags)
        at_most_ns = np.array([tag.at_most_every_ns for tag in tags], np.int64)
        self._at_most_ns = at_most_ns if at_most_ns.any() else None
        self._at_least_ns = np.array([tag.at_least_every_ns for tag in tags], np.int64)
        self._at_least_ns_shortest = int(self._at_least_ns.min())
        self.is_every_change = self._deadband is None and self._at_most_ns is None
        self._reported: Vector = np.empty(0, data_type.numpy)
        self._reported_at_ns = np.zeros(len(tags), np.int64)
        self.refresh_ns = 0
        self.outside: Mask | None = None

    def update_outside(self, values: Vector) -> bool:
        """Update `outside`; returns whether it has changed."""
        if self._inside is None:
            return False
        inside = self._inside(values, slice(None))
        before, self.outside = self.outside, None if np.count_nonzero(inside) == len(inside) else ~inside
        if before is None or self.outside is None:
            return before is not self.outside
        return not np.array_equal(before, self.outside)

    def select(self, values: Vector, now_ns: int) -> Mask | None:
        """The tags to report: moved, or unreported for long enough, which restarts that time. None where none are."""
        selected = self._moved(values)
        if selected is not None and self._at_most_ns is not None:
            selected &= now_ns - self._reported_at_ns >= self._at_most_ns - self._jitter_ns
        if now_ns + self._interval_ns > self.refresh_ns:
            due = now_ns + self._interval_ns - self._reported_at_ns > self._at_least_ns
            selected = due if selected is None else selected | due
            self._reported_at_ns[due] = now_ns
            self.refresh_ns = int((self._reported_at_ns + self._at_least_ns).min())
        return selected

    def mark_all_reported(self, values: Vector, now_ns: int) -> None:
        """Every tag was reported with these values."""
        self._reported = values
        self._reported_at_ns.fill(now_ns)
        self.refresh_ns = now_ns + self._at_least_ns_shortest

    def mark_reported(self, selected: NDArray[np.intp], values: Vector, now_ns: int) -> None:
        """The tags at these indices were reported with these values."""
        # In a new vector: the old one may be part of a block that is not sealed yet.
        self._reported = self._reported.copy()
        self._reported[selected] = values
        self._reported_at_ns[selected] = now_ns

    def _moved(self, values: Vector) -> Mask | None:
        last, deadband = self._reported, self._deadband
        if deadband is None:
            moved: Mask = values != last
        elif self._is_float:
            with np.errstate(invalid="ignore", over="ignore"):
                moved = ~(np.abs(values - last) <= deadband)
            moved &= values != last  # Infinity minus itself is NaN, but it has not moved.
        else:
            # In the type's own integers: exact at 64 bits, and a difference beyond the sign is right as unsigned.
            moved = (np.maximum(values, last) - np.minimum(values, last)).view(deadband.dtype) > deadband
        if not np.count_nonzero(moved):
            return None
        if self._is_float and self.outside is not None:  # Else no value is NaN.
            moved &= ~((values != values) & (last != last))
        return moved


def _raw_deadbands(data_type: DataType, tags: Sequence[CatalogueTag]) -> NDArray[Any]:
    """Deadbands in raw units, rounded so that the error in engineering units never exceeds the configured one."""
    raw = [tag.deadband / abs(tag.scale) for tag in tags]
    if data_type.numpy.kind == "f":
        # The computed distance is rounded to the type's precision: stay that much below.
        shrink = 1 - 2 * float(np.finfo(data_type.numpy).eps)
        limit = float(np.finfo(data_type.numpy).max)
        return np.array([min(deadband * shrink, limit) for deadband in raw], data_type.numpy)
    unsigned = np.dtype(f"u{data_type.numpy.itemsize}")
    limit = int(np.iinfo(unsigned).max)
    return np.array([min(math.floor(deadband * (1 + _ROUNDING)), limit) for deadband in raw], unsigned)


Inside = Callable[[Vector, Places], Mask]
"""Whether each value is within the range of its tag, which is at the same index of the places."""


def inside_of(data_type: DataType, tags: Sequence[CatalogueTag]) -> Inside | None:
    """The comparison of values with the ranges of their tags, false for NaN and infinity; None where it never is."""
    is_float = data_type.numpy.kind == "f"
    if not data_type.is_number or not (is_float or any(tag.range for tag in tags)):
        return None
    if not any(tag.range for tag in tags):
        return lambda values, _: np.isfinite(values)
    lows, highs = (
        np.array(bounds, data_type.numpy) for bounds in zip(*(_raw_range(data_type, tag) for tag in tags), strict=True)
    )
    return lambda values, places: (values >= lows[places]) & (values <= highs[places])


def _raw_range(data_type: DataType, tag: CatalogueTag) -> tuple[float, float]:
    is_float = data_type.numpy.kind == "f"
    info = np.finfo(data_type.numpy) if is_float else np.iinfo(data_type.numpy)
    lowest, highest = (float(info.min), float(info.max)) if is_float else (int(info.min), int(info.max))
    if tag.range is None:
        return lowest, highest
    low, high = sorted((bound - tag.offset) / tag.scale for bound in tag.range)
    if is_float:
        return max(low, lowest), min(high, highest)
    low, high = math.ceil(low - abs(low) * _ROUNDING), math.floor(high + abs(high) * _ROUNDING)
    if low > highest or high < lowest:
        return highest, lowest  # No raw value is within the range.
    return max(low, lowest), min(high, highest)
