"""Whether the archive, the independent witness and the device itself say the same, reading by reading.

Gateway and witness never ask at the same instant. Of a moving signal they see different values although both are
right, so what may differ follows from how fast the signal can move, and from nothing else.

A reading has an interval [from, to] in which the device sampled it: for the gateway the request and the answer in the
archive, for the witness the same of its own request. A signal that moves at most `slope` in a second cannot differ by
more between two readings than slope x (the largest distance of their intervals). So an archived value is judged by two
witness readings, the last one that was answered before it was asked for, and the first one that was asked for after it
was answered:

- a signal that only moves must be within reach of both, which means between them or nearly so;
- a signal that jumps (a step, a counter that wraps) must be within reach of one of them, if at most one jump fits
  between the two: they are closer together than the time that it holds still; else the reading is *unjudged*;
- a signal that stands still has slope 0: then the three must be equal, to the bit.

Integers may differ by one more, and floats by a bit, because each reading rounds. A text or a bool jumps. What a tag
does comes from the rig file; where that says nothing, the witness' own readings tell how fast it moved, doubled, and
the finding says so.

The other way round, a witness reading must be within reach of what the archive holds at that time: a value is in force
until the next one (report by exception), up to its deadband. That finds values which were never archived, and a gateway
that repeats an old one.

The quality must be that of one of the two witness readings, and the type the one that the witness found in the device.
A reading that the gateway did not get (no communication, a timeout) is *unread*: that says nothing of its decoding.

The device's own log is the third voice: an archived value must be among those that it wrote down within [from, to].

A known signal is the fourth: its value at every moment is in the rig file. An instrument that makes it has a clock of
its own; its time error E widens the interval to [from - E, to + E], so that it adds slope x E to what may differ. It
makes the verdict weaker, never stronger, and is stated with it.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite, isnan, pi

from edge.model import Quality, StatusCode, quality_of
from hil.devices import Served
from hil.evidence import Archived, Declared
from hil.rig import Signal
from hil.witness import BAD, BAD_NO_COMMUNICATION, BAD_NO_DATA, Seen, Value

_SECOND_NS = 10**9
_EXAMPLES_MAX = 5
FLOAT32 = 2.0**-23
"""The distance of neighbouring float32 values, as a part of them."""
_UNREAD = (StatusCode.BAD_NO_COMMUNICATION, StatusCode.BAD_TIMEOUT, StatusCode.BAD_WAITING_FOR_INITIAL_DATA)
_UNNAMED = (BAD, BAD_NO_COMMUNICATION, BAD_NO_DATA)


@dataclass(frozen=True, slots=True)
class Motion:
    """How a signal can move.

    Attributes:
        slope: the most that it changes in a second without a jump, in its own unit.
        holds_ns: how long there is no jump after a jump; None for a signal that never jumps.
        is_measured: whether the witness' readings, and not the rig file, told the slope.
    """

    slope: float
    holds_ns: int | None = None
    is_measured: bool = False

    @classmethod
    def of(cls, signal: Signal) -> Motion:
        """That of a known signal; the slope of a counter is not known."""
        span, period_s = signal.high - signal.low, signal.period / _SECOND_NS
        match signal.wave:
            case "sine":
                return cls(pi * span / period_s)
            case "ramp":
                return cls(span / period_s, signal.period)
            case "square":
                return cls(0.0, signal.period // 2)
            case "steady":
                return cls(0.0)
        return cls(inf)

    @classmethod
    def measured(cls, seen: Sequence[Seen]) -> Motion:
        """Twice the steepest that the witness saw; texts and bools jump, and hold for an unknown time."""
        good = [each for each in seen if each.value is not None]
        if any(isinstance(each.value, str | bool) for each in good):
            return cls(0.0, 0 if len({each.value for each in good}) > 1 else None, is_measured=True)
        slopes = (
            abs(_number(after.value) - _number(before.value)) * _SECOND_NS / max(1, after.asked_ns - before.answered_ns)
            for before, after in pairwise(good)
        )
        return cls(2 * max((each for each in slopes if isfinite(each)), default=0.0), None, is_measured=True)


@dataclass(slots=True, kw_only=True)
class Agreement:
    """What was compared of one tag, and what did not agree.

    Attributes:
        tag: `device/tag`.
        readings: archived readings; `judged` of them by witness readings on both sides, `unjudged` by less.
        witnessed: readings of the witness; `matched` of them are in force in the archive, `unmatched` are not, and the
            others have no value, or are outside of the time in which the gateway was reading.
        unserved: archived values that the device's log has not; None where the device keeps none.
        largest: the largest part of what may differ that a judged reading used: above 1 it is wrong.
        wrong: archived readings whose value, quality or type does not agree.
        examples: the first that do not agree, each in a sentence.
    """

    tag: str
    archived_type: str
    motion: Motion
    readings: int = 0
    judged: int = 0
    unjudged: int = 0
    unread: int = 0
    wrong: int = 0
    witnessed: int = 0
    matched: int = 0
    unmatched: int = 0
    unserved: int | None = None
    largest: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def is_contradicted(self) -> bool:
        """Whether one of the voices says something else."""
        return bool(self.wrong or self.unmatched or self.unserved)

    @property
    def holds(self) -> bool:
        """Whether something was judged, and everything agrees."""
        return self.judged + self.matched > 0 and not self.is_contradicted

    @property
    def found(self) -> str:
        """What was found, in a sentence."""
        parts = [f"{self.judged} of {self.readings} readings judged by {self.witnessed} of the witness"]
        parts += [f"{self.unread} that the gateway did not get"] if self.unread else []
        parts += [f"{self.wrong} wrong"] if self.wrong else []
        parts += [f"{self.unmatched} of the witness not in force in the archive"] if self.unmatched else []
        parts += [f"{self.unserved} not in the device's log"] if self.unserved else []
        parts += ["how fast it moves is measured by the witness"] if self.motion.is_measured else []
        return f"{self.tag}: {', '.join(parts)}" + (f" ({'; '.join(self.examples)})" if self.examples else "")

    def note(self, text: str) -> None:
        """Keep one of the first examples."""
        if len(self.examples) < _EXAMPLES_MAX:
            self.examples.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a tag without the archive's values.

    Attributes:
        type: as the catalogue of the archive has it.
        hole_ns: how far apart two scans of it may be without a gap on record.
        deadband: in the unit of the raw value.
        range: in the unit of the raw value; outside of it a value is UNCERTAIN.
    """

    type: str
    hole_ns: int
    deadband: float = 0.0
    range: tuple[float, float] = (-inf, inf)


def agreement(
    tag: str,
    known: Known,
    motion: Motion,
    archived: Sequence[Archived],
    seen: Sequence[Seen],
    served: Sequence[Served] | None = None,
    declared: Sequence[Declared] = (),
    until_ns: int = 2**63,
) -> Agreement:
    """Compare everything that is known of one tag.

    Args:
        tag: `device/tag`.
        archived: its readings in the archive.
        seen: its readings by the witness.
        served: what the device wrote down; None where it keeps no log.
        declared: the gaps and losses on record.
        until_ns: boot time at which the gateway was stopped: later readings of the witness have no counterpart.
    """
    seen = sorted(seen, key=lambda each: each.asked_ns)
    archived = sorted(archived, key=lambda each: each.from_ns)
    found = Agreement(tag=tag, archived_type=known.type, motion=motion, readings=len(archived), witnessed=len(seen))
    types = sorted({each.type for each in seen if each.value is not None} - {known.type})
    if types:
        found.wrong += 1
        found.note(f"the archive has it as {known.type}, the witness as {', '.join(types)}")
    _judge_archived(found, known, archived, seen)
    absences = [each for each in declared if each.device in (None, tag.partition("/")[0])]
    _judge_witnessed(found, known, archived, seen, absences, until_ns)
    if served is not None:
        _judge_served(found, archived, served)
    return found


def _judge_archived(found: Agreement, known: Known, archived: Sequence[Archived], seen: Sequence[Seen]) -> None:
    asked = [each.asked_ns for each in seen]
    answered = [each.answered_ns for each in seen]  # In order, because the witness waits for each answer.
    for reading in archived:
        before = bisect_right(answered, reading.from_ns) - 1
        after = bisect_left(asked, reading.to_ns)
        if reading.status in _UNREAD:
            found.unread += 1
            continue
        if before < 0 or after >= len(seen) or _may_jump_twice(found.motion, seen[before], seen[after]):
            found.unjudged += 1
            continue
        sides = seen[before], seen[after]
        found.judged += 1
        if not any(_is_quality(known, reading.status, side) for side in sides):
            found.wrong += 1
            found.note(f"status 0x{reading.status:08X}, the witness 0x{sides[0].status:08X}")
        elif reading.value is not None and all(side.value is not None for side in sides):
            part = _part(found.motion, reading, sides)
            found.largest = max(found.largest, part)
            if part > 1:
                found.wrong += 1
                found.note(f"{reading.value!r} between {sides[0].value!r} and {sides[1].value!r} of the witness")


def _may_jump_twice(motion: Motion, before: Seen, after: Seen) -> bool:
    return motion.holds_ns is not None and after.answered_ns - before.asked_ns >= motion.holds_ns


def _part(motion: Motion, reading: Archived, sides: Sequence[Seen]) -> float:
    """How much of what may differ is used: of both witness readings the worse, of a signal that jumps the better."""
    parts = [
        _used(reading.value, side.value, motion.slope, max(reading.to_ns - side.asked_ns,
              side.answered_ns - reading.from_ns)) for side in sides
    ]  # fmt: skip
    return max(parts) if motion.holds_ns is None else min(parts)


def _used(one: Value | None, other: Value | None, slope: float, apart_ns: int, more: float = 0.0) -> float:
    """The difference of two values as a part of what may differ after `apart_ns`; 0 where they are equal."""
    if is_same(one, other):
        return 0.0
    if isinstance(one, str | bool) or isinstance(other, str | bool):
        return inf
    rounding = 0.0
    if slope:
        rounding = 1.0 if isinstance(one, int) else max(abs(_number(one)), abs(_number(other))) * FLOAT32
    allowed = slope * max(0, apart_ns) / _SECOND_NS + rounding + more
    difference = abs(_number(one) - _number(other))
    return difference / allowed if allowed and isfinite(difference) else inf


def is_same(one: Value | None, other: Value | None) -> bool:
    """Whether two values are equal: NaN equals NaN, and a double equals the float32 that it rounds to."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (isnan(one) and isnan(other)) or _float32(one) == _float32(other)
    return one == other


def _float32(value: float) -> float:
    try:
        rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return value
    return rounded


def _is_quality(known: Known, status: int, side: Seen) -> bool:
    """Whether a status in the archive is the one that follows from a reading of the witness."""
    expected = side.status
    value = side.value
    if quality_of(expected) is Quality.GOOD and isinstance(value, int | float) and not isinstance(value, bool):
        low, high = known.range
        if not (isfinite(value) and low <= value <= high):
            expected = StatusCode.UNCERTAIN_OUT_OF_RANGE
    if expected in _UNNAMED:
        return quality_of(status) is quality_of(expected)  # Modbus and Logix have no status codes of OPC UA.
    return status == expected


def _judge_witnessed(
    found: Agreement, known: Known, archived: Sequence[Archived], seen: Sequence[Seen],
    absences: Sequence[Declared], until_ns: int,
) -> None:  # fmt: skip
    if not archived:
        return
    begins = [each.from_ns for each in archived]
    for each in seen:
        from_ns, to_ns = each.asked_ns - known.hole_ns, each.answered_ns + known.hole_ns
        if each.value is None or each.asked_ns < begins[0] or to_ns > until_ns:
            continue
        # What changed in a gap on record is in the archive after it only.
        gaps = [gap for gap in absences if gap.from_ns <= to_ns and from_ns <= gap.to_ns]
        from_ns = min([from_ns, *(gap.from_ns - known.hole_ns for gap in gaps)])
        to_ns = max([to_ns, *(min(gap.to_ns, until_ns) + known.hole_ns for gap in gaps)])
        in_force = archived[max(0, bisect_right(begins, from_ns) - 1) : bisect_right(begins, to_ns)]
        apart_ns = to_ns - from_ns
        if any(_is_in_force(found.motion, known, reading, each, apart_ns) for reading in in_force):
            found.matched += 1
        else:
            found.unmatched += 1
            found.note(f"the witness read {each.value!r}, the archive holds {in_force[-1].value!r}")


def _is_in_force(motion: Motion, known: Known, reading: Archived, seen: Seen, apart_ns: int) -> bool:
    if reading.value is None or not _is_quality(known, reading.status, seen):
        return reading.status in _UNREAD
    return _used(reading.value, seen.value, motion.slope, apart_ns, known.deadband) <= 1


def _judge_served(found: Agreement, archived: Sequence[Archived], served: Sequence[Served]) -> None:
    served = sorted(served, key=lambda each: each.boot_ns)
    times = [each.boot_ns for each in served]
    found.unserved = 0
    for reading in archived:
        said = served[bisect_left(times, reading.from_ns) : bisect_right(times, reading.to_ns)]
        if reading.value is not None and not any(is_same(each.value, reading.value) for each in said):
            found.unserved += 1
            found.note(f"{reading.value!r}, which the device did not serve at that time")


def _number(value: Value | None) -> float:
    assert isinstance(value, int | float)
    return float(value)
