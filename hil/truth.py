"""Archived values against a known signal: its value, its amplitude, and the moments at which it steps.

The rig file gives the signal, and with it two errors of the instrument that makes it: `accuracy`, by which its value
may be wrong, and `time_error` E, by which its moments may be. Both widen what may differ, and the finding states them.

**Value.** The device sampled at some moment between request and answer of the archive, [from, to]. The archived value
must be the signal's at the middle of that interval, within slope x (half of it + E) + accuracy + rounding. Only a
signal whose phase is known is judged so: one that the simulated rig makes from the boot time.

**Amplitude.** Readings that are at most G apart miss the top of a sine with amplitude A and period T by at most
A x (1 - cos(pi G / T)). Within that, and the accuracy, the archived extremes must be those of the signal.

**Steps.** The archive says of a step that it happened between the last request that was answered with the old value and
the first answer with the new one. Each step of the signal must lie in such an interval, widened by E, and each interval
must hold a step. Where the phase is not known, the steps are those that the witness saw, between two of its readings.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi

from hil.agreement import FLOAT32, Motion
from hil.evidence import Archived
from hil.rig import Signal
from hil.witness import Seen


@dataclass(frozen=True, slots=True)
class Deviation:
    """Archived values against the true ones: how many were judged, how many are wrong, and the largest difference."""

    judged: int
    wrong: int
    largest: float
    largest_part: float


def deviation(signal: Signal, archived: Sequence[Archived]) -> Deviation:
    """The archived values of a signal whose phase is known. Readings in which it may have jumped are not judged."""
    slope_ns = Motion.of(signal).slope / 1e9
    judged = wrong = 0
    largest = part = 0.0
    for reading in archived:
        from_ns, to_ns = reading.from_ns - signal.time_error, reading.to_ns + signal.time_error
        if reading.value is None or _jumps(signal, from_ns, to_ns):
            continue
        judged += 1
        true = signal.at((from_ns + to_ns) // 2)
        rounding = 0.5 if isinstance(reading.value, int) else abs(true) * FLOAT32
        allowed = slope_ns * (to_ns - from_ns) / 2 + signal.accuracy + rounding
        difference = abs(float(reading.value) - true)
        largest = max(largest, difference)
        part = max(part, difference / allowed if allowed else float(difference > 0) * 2)
        wrong += difference > allowed
    return Deviation(judged, wrong, largest, part)


def _jumps(signal: Signal, from_ns: int, to_ns: int) -> bool:
    every_ns = {"ramp": signal.period, "square": signal.period // 2}.get(signal.wave)
    return every_ns is not None and from_ns // every_ns != to_ns // every_ns


@dataclass(frozen=True, slots=True)
class Amplitude:
    """The archived amplitude of a sine, the true one, and by how much they may differ."""

    archived: float
    true: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return abs(self.archived - self.true) <= self.allowed


def amplitude(signal: Signal, archived: Sequence[Archived]) -> Amplitude | None:
    """The amplitude of a sine over the longest stretch of readings; None where that is shorter than a period.

    A pause of a quarter of a period, such as a stop of the gateway, ends a stretch.
    """
    good: list[Archived] = []
    stretch: list[Archived] = []
    for each in _in_time(archived):
        if stretch and each.to_ns - stretch[-1].from_ns > signal.period // 4:
            stretch = []
        stretch.append(each)
        good = max(good, stretch, key=len)
    if not good or good[-1].from_ns - good[0].to_ns < signal.period:
        return None
    apart_ns = max(after.to_ns - before.from_ns for before, after in pairwise(good))
    values = [float(each.value) for each in good]
    true = (signal.high - signal.low) / 2
    rounding = 0.5 if isinstance(good[0].value, int) else signal.high * FLOAT32
    allowed = true * (1 - cos(pi * apart_ns / signal.period)) + signal.accuracy + rounding
    return Amplitude((max(values) - min(values)) / 2, true, allowed)


Interval = tuple[int, int]
"""From and to, in boot time."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a signal and those of the archive.

    Attributes:
        matched: true steps that lie in an interval of the archive.
        missing: true steps without one.
        invented: intervals of the archive without a true step.
        untimed: intervals that are wider than two scans may be apart, although the gateway was reading.
        widest_ns: the widest of the others: how exactly the archive tells the moment of a step.
    """

    matched: int
    missing: tuple[int, ...]
    invented: tuple[Interval, ...]
    untimed: tuple[Interval, ...]
    widest_ns: int

    @property
    def holds(self) -> bool:
        """Whether there are steps, and each is where it should be."""
        return self.matched > 0 and not (self.missing or self.invented or self.untimed)


def archived_steps(archived: Sequence[Archived], scans: Sequence[int]) -> list[Interval]:
    """When the archive says that the value changed.

    Args:
        scans: boot times of all requests of the scan group, ascending: an unchanged value is not reported again.
    """
    found = []
    for before, after in pairwise(_in_time(archived)):
        if before.value != after.value:
            at = bisect_left(scans, after.from_ns) - 1
            found.append((max(before.from_ns, scans[at] if at >= 0 else 0), after.to_ns))
    return found


def _in_time(archived: Sequence[Archived]) -> list[Archived]:
    """The readings with a value, in the order in which they were asked for, not in that of their arrival."""
    return sorted((each for each in archived if each.value is not None), key=lambda each: each.from_ns)


def true_steps(signal: Signal, scans: Sequence[int]) -> list[Interval]:
    """The steps of a square signal whose phase is known, each with its time error, while a scan group was read."""
    half_ns = signal.period // 2
    return [
        (number * half_ns - signal.time_error, number * half_ns + signal.time_error)
        for number in (range(scans[0] // half_ns, scans[-1] // half_ns + 2) if scans else ())
    ]


def seen_steps(seen: Sequence[Seen]) -> list[Interval]:
    """The steps that the witness saw, each between two of its readings."""
    good = [each for each in seen if each.value is not None]
    return [(before.asked_ns, after.answered_ns) for before, after in pairwise(good) if before.value != after.value]


def match_steps(
    true: Sequence[Interval],
    found: Sequence[Interval],
    scans: Sequence[int],
    hole_ns: int,
    pauses: Sequence[Interval] = (),
) -> Steps:
    """Which true steps are in the archive.

    Args:
        scans: as in `archived_steps`. A step is expected from the second to the last: whether one falls before or after
            the sample of a scan is not known.
        hole_ns: how far apart two scans may be without a gap on record.
        pauses: when the gateway was not reading: steps in them are not expected, and may be between wide intervals.
    """
    covered = (scans[1], scans[-1]) if len(scans) > 1 else (0, 0)
    pairs = {step: [each for each in found if _overlap(step, each)] for step in true}
    used = {each for matches in pairs.values() for each in matches}
    is_narrow = {each: each[1] - each[0] <= hole_ns for each in found}
    return Steps(
        matched=sum(bool(matches) for matches in pairs.values()),
        missing=tuple(
            step[0]
            for step, matches in pairs.items()
            if not matches and covered[0] <= step[0] and step[1] <= covered[1] and not _in_any(step, pauses)
        ),
        invented=tuple(each for each in found if each not in used),
        untimed=tuple(each for each in found if not is_narrow[each] and not _in_any(each, pauses)),
        widest_ns=max((each[1] - each[0] for each in found if is_narrow[each]), default=0),
    )


def _in_any(one: Interval, others: Sequence[Interval]) -> bool:
    return any(_overlap(one, other) for other in others)


def _overlap(one: Interval, other: Interval) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
