"""Values that move: each is the time at which it was taken, so that an old one, or another tag's, is told from it.

The time is that of the machine since boot: peers in other processes tell the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.clock import SystemClock

Truth = Callable[[Any, int, int], bool]
"""Whether a value is what the device held at some time between two boot times in nanoseconds."""

_TAG_SHIFT = 26  # A minute apart: values of two tags differ by more than the time between their readings.
_MASK = 0xFFFFFFFF

_boot_ns = SystemClock().boot_ns


def moment(number: int) -> int:
    """What tag `number` is now: microseconds since boot, and a distance that is the tag's own, as uint32."""
    return (_boot_ns() // 1000 + (number << _TAG_SHIFT)) & _MASK


def is_moment_of(number: int) -> Truth:
    """The truth about a tag whose value is `moment(number)`."""

    def is_true(value: Any, asked_at_ns: int, answered_at_ns: int) -> bool:
        since_us = (int(value) - (number << _TAG_SHIFT) - asked_at_ns // 1000) & _MASK
        return since_us <= (answered_at_ns - asked_at_ns) // 1000 + 1

    return is_true


def is_always(held: Any) -> Truth:
    """The truth about a tag that stands still; NaN is NaN."""

    def is_true(value: Any, asked_at_ns: int, answered_at_ns: int) -> bool:
        return bool(value == held or (value != value and held != held))

    return is_true
