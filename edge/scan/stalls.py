"""Holes in the readings of a scan group: what caused them, and the GAP that says so.

A hole lies between the ends of two answers that are further apart than `CatalogueGroup.hole_ns`. Neighbouring holes
are one GAP. A group with many holes says it once a minute: its GAP lasts from the first to the last, and counts them.
One while the gateway was suspended is not counted with others: its GAP is as long as that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from edge.clock import Clock
from edge.model import StatusCode
from edge.scan.schedule import Timer
from edge.units import format_duration

_TICK_NS_MIN, _TICK_NS_MAX = 100 * 10**6, 10**9
_TICKS_IN_A_HOLE = 8  # What a tick says of a hole is off by one of them at each end.
_MERGED_NS = 60 * 10**9


class Cause(Enum):
    """Why a group was not read, with the status code and the words of its GAP."""

    DEVICE = (StatusCode.BAD_TIMEOUT, "the device was slow")
    BUSY = (StatusCode.BAD_RESOURCE_UNAVAILABLE, "the gateway was busy")
    SUSPENDED = (StatusCode.BAD_OUT_OF_SERVICE, "the gateway was suspended")

    def __init__(self, status: StatusCode, words: str) -> None:
        self.status = int(status)
        self.words = words


class Sample(NamedTuple):
    """At a boot time: how long the thread of the event loop had run or been ready to, and how late ticks had been."""

    at_ns: int
    ran_ns: int
    late_ns: int


class LoopMonitor:
    """Knows since when the event loop stood still, and whether it was busy meanwhile.

    It ticks as often as the shortest hole asks for: a wake-up for nothing costs more than most scans.

    Attributes:
        latest: how it was at the last tick.
    """

    def __init__(self, clock: Clock, timer: Timer, run_time: Callable[[], int]) -> None:
        self._boot_ns = clock.boot_ns
        self._call_at = timer.call_at
        self._run_time = run_time
        self._due_ns = clock.boot_ns()
        self._tick_ns = _TICK_NS_MAX
        self.latest = Sample(self._due_ns, run_time(), 0)
        self._tick()

    def _tick(self) -> None:
        now_ns = self._boot_ns()
        self.latest = Sample(now_ns, self._run_time(), self.latest.late_ns + now_ns - self._due_ns)
        self._due_ns = now_ns + self._tick_ns
        self._call_at(self._due_ns, self._tick)

    def watch(self, limit_ns: int) -> None:
        """Tick often enough, from the next tick on, to say what caused a hole longer than this."""
        self._tick_ns = max(_TICK_NS_MIN, min(self._tick_ns, limit_ns // _TICKS_IN_A_HOLE))

    def cause(self, since: Sample) -> Cause:
        """Why nothing was read since a sample: the event loop did not run, or else the device did not answer."""
        now_ns = self._boot_ns()
        ran_ns = self._run_time() - since.ran_ns
        late_ns = self.latest.late_ns - since.late_ns + max(0, now_ns - self._due_ns)
        if 5 * ran_ns >= 4 * (now_ns - since.at_ns):
            return Cause.BUSY
        if 2 * late_ns < now_ns - since.at_ns:
            return Cause.DEVICE
        return Cause.BUSY if 2 * ran_ns >= late_ns else Cause.SUSPENDED


class RecordGap(Protocol):
    """Seals a GAP of a scan group: when it begins (`to_ns` None), and when it ends."""

    def __call__(self, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        """Boot times, status code and the reason in words."""
        ...


@dataclass(slots=True)
class _Holes:
    """The holes of one GAP."""

    from_ns: int
    to_ns: int = 0
    total_ns: int = 0
    longest_ns: int = 0
    causes: Counter[Cause] = field(default_factory=Counter)

    @property
    def is_suspended(self) -> bool:
        return Cause.SUSPENDED in self.causes

    def add(self, from_ns: int, to_ns: int, cause: Cause) -> None:
        self.to_ns = to_ns
        self.total_ns += to_ns - from_ns
        self.longest_ns = max(self.longest_ns, to_ns - from_ns)
        self.causes[cause] += 1

    def describe(self) -> tuple[int, str]:
        """Status code of the most frequent cause, and all causes with their counts."""
        ranked = self.causes.most_common()
        [(first, count), *others] = ranked
        if not others and count == 1:
            return first.status, first.words
        words = f"{first.words}: {count} holes" if not others else "; ".join(f"{c.words}: {n}" for c, n in ranked)
        total, longest = format_duration(self.total_ns), format_duration(self.longest_ns)
        return first.status, f"{words}, of {total} in all and {longest} at most"


class HoleWatch:
    """Records the holes of one scan group.

    Attributes:
        read_ns: boot time of the end of the last answer, or since when the group should have been read.
    """

    def __init__(self, limit_ns: int, now_ns: int, monitor: LoopMonitor, record_gap: RecordGap) -> None:
        self.read_ns = now_ns
        self._limit_ns = limit_ns
        self._monitor = monitor
        monitor.watch(limit_ns)
        self._since = monitor.latest
        self._record_gap = record_gap
        self._holes: _Holes | None = None
        self._closed_ns: int | None = None

    def is_hole(self, now_ns: int) -> bool:
        """Whether the group would have a hole if its next answer ended now."""
        return now_ns - self.read_ns > self._limit_ns

    def cause(self, now_ns: int) -> Cause:
        """Why the group has not been read until now."""
        return self._monitor.cause(self._since) if self.is_hole(now_ns) else Cause.DEVICE

    def note(self, now_ns: int) -> None:
        """An answer has ended."""
        is_hole = now_ns - self.read_ns > self._limit_ns
        if is_hole:
            self._add(now_ns)
        if self._holes is not None and self._is_over(now_ns, is_hole=is_hole):
            self.close()
        self.restart(now_ns)

    def restart(self, now_ns: int) -> None:
        """What was not read until now is on record already."""
        self.read_ns, self._since = now_ns, self._monitor.latest

    def close(self) -> None:
        """Record the end of the GAP."""
        holes, self._holes = self._holes, None
        if holes is not None:
            self._closed_ns = holes.to_ns
            self._record_gap(holes.from_ns, holes.to_ns, *holes.describe())

    def _add(self, now_ns: int) -> None:
        cause = self._monitor.cause(self._since)
        if self._holes is not None and self._holes.is_suspended != (cause is Cause.SUSPENDED):
            self.close()
        if self._holes is None:
            self._holes = _Holes(self.read_ns)
            self._record_gap(self.read_ns, None, cause.status, cause.words)
        self._holes.add(self.read_ns, now_ns, cause)

    def _is_over(self, now_ns: int, *, is_hole: bool) -> bool:
        """Whether to end the GAP: after the first answer in time, but not so soon after the GAP before."""
        assert self._holes is not None
        if now_ns - self._holes.from_ns >= _MERGED_NS:
            return True
        return not is_hole and (self._closed_ns is None or now_ns - self._closed_ns >= _MERGED_NS)
