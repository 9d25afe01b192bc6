"""When something in the archive happened, by the time of the rig.

Witness, simulated devices and scenarios run on one machine, whose boot time is the time of the rig: it never steps. The
archive has the boot time of the gateway's machine, which may be another one, and begins anew when that is
switched on. So the rig asks the gateway for its boot time, all the time: the answer was made between question and
answer, so that the difference of the two clocks is known to that. Of the answers near a moment the one that tells it
best counts; the farther away it is, the less it tells, because a clock is slewed by up to `SLEW_PPM`.

What is not known of the difference widens the interval in which a reading may have been sampled, and with it every
comparison: it makes a verdict weaker, never stronger, and is stated with it. Where both share a kernel, their
boot times are one, and nothing is widened.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edge.seal import Data
from edge.units import counted, format_duration

SLEW_PPM = 500
"""The most that adjtime(3) and ntpd slew a clock; chronyd is faster only while it corrects a large error."""
_NEAR = 20
"""So many answers before and after a moment are looked at."""


class BootAsked(NamedTuple):
    """A boot time that the gateway answered with.

    Attributes:
        boot_id: of the boot that it counts from, in hexadecimal.
        boot_ns: its answer.
        asked_ns: rig time just before the question.
        answered_ns: rig time just after the answer.
    """

    boot_id: str
    boot_ns: int
    asked_ns: int
    answered_ns: int


class _Difference(NamedTuple):
    """By how much rig time is ahead of a gateway's boot time, at least and at most, at that boot time."""

    at_ns: int
    least_ns: int
    most_ns: int

    def seen_from(self, at_ns: int) -> _Difference:
        slewed_ns = abs(at_ns - self.at_ns) * SLEW_PPM // 10**6
        return _Difference(at_ns, self.least_ns - slewed_ns, self.most_ns + slewed_ns)

    @property
    def width_ns(self) -> int:
        return self.most_ns - self.least_ns


class Alignment:
    """Converts boot times of the gateway to rig time.

    Args:
        asked: the gateway's answers.
        rig_boot_id: the boot of the machine that runs the scenarios.

    Attributes:
        largest_ns: by how much a moment may be off, at most, of those converted so far.
    """

    def __init__(self, asked: Iterable[BootAsked], rig_boot_id: str) -> None:
        by_boot: defaultdict[str, list[_Difference]] = defaultdict(list)
        for each in asked:
            by_boot[each.boot_id].append(
                _Difference(each.boot_ns, each.asked_ns - each.boot_ns, each.answered_ns - each.boot_ns)
            )
        self._is_same = {rig_boot_id} if all(
            each.least_ns <= 0 <= each.most_ns for each in by_boot.get(rig_boot_id, ())
        ) else set()  # fmt: skip
        self._known = {boot: _best(sorted(found)) for boot, found in by_boot.items() if boot not in self._is_same}
        self._unknown: set[str] = set()
        self.largest_ns = 0

    def interval(self, boot_id: str, from_ns: int, to_ns: int) -> tuple[int, int]:
        """The rig time that an interval of the gateway's boot time lies in; after everything where it is not known."""
        if boot_id in self._is_same:
            return from_ns, to_ns
        known = self._known.get(boot_id)
        if known is None:
            self._unknown.add(boot_id)
            return sys.maxsize, sys.maxsize
        at = bisect_left(known, (from_ns,))
        near = known[max(0, at - 1) : at + 1]
        found = min((each.seen_from(from_ns) for each in near), key=lambda each: each.width_ns)
        self.largest_ns = max(self.largest_ns, -(-found.width_ns // 2))
        return from_ns + found.least_ns, to_ns + found.most_ns

    @property
    def words(self) -> str:
        """How times were compared, in a sentence."""
        if self._unknown:
            return (
                f"the gateway never said the time of its boot {', '.join(sorted(self._unknown))}: what it read then "
                "cannot be compared"
            )
        if not self._known:
            return "gateway and rig have one clock: their boot times are compared as they are"
        answers = sum(map(len, self._known.values()))
        return (
            f"the gateway has a clock of its own, in {counted(len(self._known), 'boot')}: {answers} answers told its "
            f"distance, and a comparison allows for up to {format_duration(self.largest_ns)} more"
        )


def _best(answers: Sequence[_Difference]) -> list[_Difference]:
    """For the moment of each answer what the best of those near it tells."""
    return [
        min((near.seen_from(each.at_ns) for near in answers[max(0, at - _NEAR) : at + _NEAR + 1]),
            key=lambda near: near.width_ns)
        for at, each in enumerate(answers)
    ]  # fmt: skip


class RecordTimes:
    """Converts UTC of the gateway, as its GAPs and LOSSes have it, to rig time: by the nearest record with readings."""

    def __init__(self, data: Iterable[Data], alignment: Alignment) -> None:
        self._known = sorted((each.utc_ns, each.boot_ns, each.time.boot_id.hex()) for each in data)
        self._alignment = alignment

    def interval(self, from_ns: int, to_ns: int) -> tuple[int, int]:
        """The rig time that an interval of UTC lies in."""
        return self._at(from_ns)[0], self._at(to_ns)[1]

    def _at(self, utc_ns: int) -> tuple[int, int]:
        if not self._known:
            return utc_ns, utc_ns
        at = bisect_left(self._known, (utc_ns,))
        nearest_ns, boot_ns, boot_id = min(self._known[max(0, at - 1) : at + 1], key=lambda each: abs(each[0] - utc_ns))
        moment_ns = boot_ns + utc_ns - nearest_ns
        return self._alignment.interval(boot_id, moment_ns, moment_ns)


class RigClock:
    """Converts UTC of the rig to rig time and back, by pairs of both: the nearest earlier one counts."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._pairs = sorted(pairs) or [(0, 0)]
        self._boots = [boot_ns for _, boot_ns in self._pairs]

    def of(self, utc_ns: int) -> int:
        """The rig time of a UTC."""
        at_ns, boot_ns = self._pairs[max(0, bisect_right(self._pairs, (utc_ns, sys.maxsize)) - 1)]
        return utc_ns - at_ns + boot_ns

    def utc_of(self, boot_ns: int) -> int:
        """The UTC of a rig time."""
        at_ns, known_ns = self._pairs[max(0, bisect_right(self._boots, boot_ns) - 1)]
        return boot_ns - known_ns + at_ns
