"""Values that change with time: each encodes when it was taken, so that an old value, or another tag's, is recognised.

The time is that since the machine's boot, the same in peers of other processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.clock import SystemClock

Truth = Callable[[Any, int, int], bool]
"""Whether a value is one that the device had between two boot times in nanoseconds."""

_TAG_SHIFT = 26  # A minute apart: values of two tags differ by more than the time between their readings.
_MASK = 0xFFFFFFFF

_boot_ns = SystemClock().boot_ns


def moment(number: int) -> int:
    """The current value of tag `number`: microseconds since boot plus an offset of the tag, as uint32."""
    return (_boot_ns() // 1000 + (number << _TAG_SHIFT)) & _MASK


def is_moment_of(number: int) -> Truth:
    """The check of a tag whose value is `moment(number)`."""

    def is_true(value: Any, asked_at_ns: int, answered_at_ns: int) -> bool:
        since_us = (int(value) - (number << _TAG_SHIFT) - asked_at_ns // 1000) & _MASK
        return since_us <= (answered_at_ns - asked_at_ns) // 1000 + 1

    return is_true


def is_always(held: Any) -> Truth:
    """The check of a tag with a constant value; NaN equals NaN."""

    def is_true(value: Any, asked_at_ns: int, answered_at_ns: int) -> bool:
        return bool(value == held or (value != value and held != held))

    return is_true
