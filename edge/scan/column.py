"""One vector of a scan group: what was last reported of its tags, and which of them have to be reported now.

Deadband and range are turned into raw units once. Values are compared as the device sent them and in their own type,
so nothing is scaled, converted or rounded scan by scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.model import CatalogueTag, DataType, Vector

Mask = NDArray[np.bool_]
"""Which tags of a vector."""

_ROUNDING = 1e-12  # 0.3 / 0.1 is a little less than 3 and means 3.
_JITTER_SHARE = 10  # A report that comes a tenth of an interval early is on time.


class Column:
    """The tags of one data type of a scan group.

    Attributes:
        is_every_change: any change of any tag is reported at once.
        outside: the tags whose last seen value is out of its range; None where there are none.
    """

    def __init__(self, data_type: DataType, tags: Sequence[CatalogueTag], interval_ns: int) -> None:
        self._count = len(tags)
        self._interval_ns = interval_ns
        self._jitter_ns = interval_ns // _JITTER_SHARE
        self._is_float = data_type.numpy.kind == "f"
        is_number = data_type.is_number
        has_deadband = is_number and any(tag.deadband for tag in tags)
        self._deadband = _raw_deadbands(data_type, tags) if has_deadband else None
        self._range = raw_ranges(data_type, tags) if is_number and any(tag.range for tag in tags) else None
        at_most_ns = np.array([tag.at_most_every_ns for tag in tags], np.int64)
        self._at_most_ns = at_most_ns if at_most_ns.any() else None
        self._at_least_ns = np.array([tag.at_least_every_ns for tag in tags], np.int64)
        self._at_least_ns_shortest = int(self._at_least_ns.min())
        self.is_every_change = self._deadband is None and self._at_most_ns is None
        self._reported: Vector = np.empty(0, data_type.numpy)
        self._reported_at_ns = np.zeros(len(tags), np.int64)
        self.refresh_ns = 0  # Nothing has to be reported again before.
        self.outside: Mask | None = None

    def has_crossed_range(self, values: Vector) -> bool:
        """Look at the range; whether another set of tags is out of it than before."""
        if self._range is None:
            return False
        low, high = self._range
        outside = (values < low) | (values > high)
        before, self.outside = self.outside, outside if np.count_nonzero(outside) else None
        if before is None or self.outside is None:
            return before is not self.outside
        return not np.array_equal(before, outside)

    def wanted(self, values: Vector, now_ns: int) -> Mask | None:
        """The tags that have moved, or have gone unreported for long enough; None where there are none."""
        wanted = self._moved(values)
        if wanted is not None and self._at_most_ns is not None:
            wanted &= now_ns - self._reported_at_ns >= self._at_most_ns - self._jitter_ns
        if now_ns + self._interval_ns > self.refresh_ns:
            due = now_ns + self._interval_ns - self._reported_at_ns > self._at_least_ns
            wanted = due if wanted is None else wanted | due
            self._reported_at_ns[due] = now_ns
            self.refresh_ns = int((self._reported_at_ns + self._at_least_ns).min())
        return wanted

    def take_all(self, values: Vector, now_ns: int) -> None:
        """Remember that every tag was reported."""
        self._reported = values
        self._reported_at_ns.fill(now_ns)
        self.refresh_ns = now_ns + self._at_least_ns_shortest

    def take(self, places: NDArray[np.intp], values: Vector, now_ns: int) -> None:
        """Remember that these tags were reported."""
        # In a new vector: the old one may be part of a block that is still waiting to be sealed.
        self._reported = self._reported.copy()
        self._reported[places] = values
        self._reported_at_ns[places] = now_ns

    def _moved(self, values: Vector) -> Mask | None:
        last, deadband = self._reported, self._deadband
        if deadband is None:
            moved: Mask = values != last
        elif self._is_float:
            with np.errstate(invalid="ignore", over="ignore"):
                moved = ~(
                    np.abs(values - last) <= deadband
                )  # An infinity is no distance from itself, and has not moved.
            moved &= values != last
        else:
            # In the type's own integers: exact at 64 bits, and what is too big for the sign is right as unsigned.
            moved = (np.maximum(values, last) - np.minimum(values, last)).view(deadband.dtype) > deadband
        if not np.count_nonzero(moved):
            return None
        if self._is_float:
            not_a_number = values != values
            if np.count_nonzero(not_a_number):
                moved &= ~(not_a_number & (last != last))
        return moved


def _raw_deadbands(data_type: DataType, tags: Sequence[CatalogueTag]) -> NDArray[Any]:
    """Deadbands in raw units, rounded so that whoever applies them in engineering units is never worse off."""
    raw = [tag.deadband / abs(tag.scale) for tag in tags]
    if data_type.numpy.kind == "f":
        # The distance itself is rounded to the type's precision: stay that much below.
        shrink = 1 - 2 * float(np.finfo(data_type.numpy).eps)
        limit = float(np.finfo(data_type.numpy).max)
        return np.array([min(deadband * shrink, limit) for deadband in raw], data_type.numpy)
    unsigned = np.dtype(f"u{data_type.numpy.itemsize}")
    limit = int(np.iinfo(unsigned).max)
    return np.array([min(math.floor(deadband * (1 + _ROUNDING)), limit) for deadband in raw], unsigned)


def raw_ranges(data_type: DataType, tags: Sequence[CatalogueTag]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lowest and highest raw value of each tag that is within its range."""
    bounds = [_raw_range(data_type, tag) for tag in tags]
    lows, highs = zip(*bounds, strict=True)
    return np.array(lows, data_type.numpy), np.array(highs, data_type.numpy)


def _raw_range(data_type: DataType, tag: CatalogueTag) -> tuple[float, float]:
    is_float = data_type.numpy.kind == "f"
    info = np.finfo(data_type.numpy) if is_float else np.iinfo(data_type.numpy)
    lowest, highest = (-math.inf, math.inf) if is_float else (int(info.min), int(info.max))
    if tag.range is None:
        return lowest, highest
    low, high = sorted((bound - tag.offset) / tag.scale for bound in tag.range)
    if is_float:
        limit = float(info.max)
        return max(low, -limit), min(high, limit)
    low, high = math.ceil(low - abs(low) * _ROUNDING), math.floor(high + abs(high) * _ROUNDING)
    if low > highest or high < lowest:
        return highest, lowest  # No raw value is within the range.
    return max(low, lowest), min(high, highest)
