"""What a bound has to allow for because of leap seconds: one that may have come unnoticed, and one that is smeared.

A leap second ends a UTC day: the clock is set back by a second, or from 23:59:59 on. A clock that is set shows a step,
as any other. One that is slewed instead, or left alone, is off by a second from one instant to the next, and its source
has not measured that yet. So from the instant at which one may have come, a second is allowed for, until the source has
measured twice: the first measurement that is seen then may still be of before. It may come

- at the end of the day, where the source announces one;
- at the end of June and of December, where no source is synchronized that would have announced it.

A server that smears announces none. It spreads the second over hours, half of them before, and is off by up to half a
second meanwhile. In which years it does is not known here: the end of each June and December counts.
"""

from __future__ import annotations

from datetime import UTC, datetime

from edge.clock.quality import TimeQuality, TimeSource, TimeState
from edge.clock.source import SourceReport

_S = 10**9
LEAP_NS = _S
_DAY_NS = 86_400 * _S
_MARGIN_NS = 600 * _S  # Of the hours in which a server smears: it is not asked all the time.
_QUIET_NS = 3600 * _S  # After a step that took a leap second in; its announcement may stay for a while.
_NEVER = 2**63
_ANNOUNCED = (1, 2)


class LeapSeconds:
    """Knows when a leap second may come, and how much a bound has to allow for.

    Args:
        smear_ns: over how long the servers smear a leap second, half of it before; 0 where they do not.

    Attributes:
        due_ns: boot time from which on the next one may have come.
        over_ns: boot time at which the last that may have come has come, if it has.
        unmeasured: how many may have come since the source has measured the clock.
    """

    def __init__(self, smear_ns: int = 0) -> None:
        self._smear_ns = smear_ns
        self.due_ns = _NEVER
        self.over_ns = 0
        self.unmeasured = 0
        self._next_over_ns = 0
        self._before: dict[TimeSource, int | None] = {}  # Updates that may be of before the last one.

    def is_smeared(self, utc_ns: int) -> bool:
        """Whether a leap second may be smeared now."""
        if not self._smear_ns:
            return False
        half_ns = self._smear_ns // 2 + _MARGIN_NS
        midnight_ns = (utc_ns + _DAY_NS // 2) // _DAY_NS * _DAY_NS
        return _ends_half_year(midnight_ns) and abs(utc_ns - midnight_ns) <= half_ns

    def allowance_ns(self, utc_ns: int) -> int:
        """By how much a bound has to be larger."""
        return self.unmeasured * LEAP_NS + self.is_smeared(utc_ns) * LEAP_NS // 2

    def expect(self, quality: TimeQuality) -> None:
        """Take what the source says of the next one."""
        boot_ns = quality.as_of_ns
        if boot_ns < self.over_ns:
            return
        utc_ns, unsure_ns = boot_ns + quality.offset_ns, quality.bound_ns or 0
        midnight_ns = (utc_ns // _DAY_NS + 1) * _DAY_NS
        may_be_missed = quality.state is not TimeState.SYNCHRONIZED and _ends_half_year(midnight_ns)
        may_come = quality.leap in _ANNOUNCED or may_be_missed
        self.due_ns = midnight_ns - quality.offset_ns - _S - unsure_ns if may_come else _NEVER
        self._next_over_ns = midnight_ns - quality.offset_ns + unsure_ns

    def come(self) -> None:
        """It is due: one may have come."""
        self.due_ns, self.over_ns = _NEVER, self._next_over_ns
        self.unmeasured += 1
        self._before.clear()

    def note_step(self, boot_ns: int) -> None:
        """The clock was set, which may have been for a leap second: what is known is void until it is measured."""
        if self.unmeasured:
            self.over_ns = max(self.over_ns, boot_ns + _QUIET_NS)
        self.due_ns, self.unmeasured = _NEVER, 0

    def note_report(self, report: SourceReport, boot_ns: int) -> None:
        """The source was asked: has it measured the clock since?"""
        if not self.unmeasured or boot_ns < self.over_ns or report.bound_ns is None:
            return
        if report.update is None or self._before.setdefault(report.source, report.update) != report.update:
            self.unmeasured = 0


def _ends_half_year(midnight_ns: int) -> bool:
    moment = datetime.fromtimestamp(midnight_ns // _S, UTC)
    return (moment.month, moment.day) in ((1, 1), (7, 1))
