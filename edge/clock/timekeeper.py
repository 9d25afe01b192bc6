"""Maps boot time to UTC with a bound of the error, and detects steps of the clock.

The offset between the two clocks changes with a step only, and a TIME record says so: readings in the order of boot
time are in the order of UTC as long as no TIME record lies between. Slewing, by frequency or by small corrections,
moves both clocks of Linux alike. So any change of the offset is a step; one too small to be told from the reading of
the clocks is left in the offset, and counts in the bound.

A slew is seen against a clock that nothing steers. A source is asked once in a while, and may start to follow something
else just after it was asked. So until it is asked again, the bound grows by what the oscillator may drift, and by what
the clock is steered.

What a source measured of the clock is void after a step, and after the machine was suspended: for that time the kernel
advances both clocks by what it reads from a real-time clock, often to a second only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from edge.clock.clock import Clock, read_pair
from edge.clock.leap import LEAP_NS, LeapSeconds
from edge.clock.quality import TimeQuality, TimeSource, TimeState
from edge.clock.source import ClockSource, SourceReport, SourceSilent
from edge.clock.timerfd import StepAlarm
from edge.units import format_duration

STEP_NS = 1_000_000
MAX_SLEW_PPM = 83_334  # The fastest slew of chronyd.
_PLAUSIBLE_UTC_NS = 1_735_689_600 * 10**9  # 2025: an earlier time means that the clock's battery failed.
_LEAP = "a leap second may have come, and its source has not measured the clock since"
_UNTRUSTED_LIMIT = 16  # Stretches kept for back-annotation.

EventSink = Callable[[str, str, Mapping[str, str | int | None]], None]
"""Takes (kind, subject, data) of an event for the audit trail."""


class Require(StrEnum):
    """How good the clock must be before its readings count as good."""

    SYNCHRONIZED = "synchronized"
    BOUNDED = "bounded"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep:
    """The content of a TIME record: the system clock was set, or an earlier stretch can now be corrected.

    Attributes:
        before: time quality until then.
        after: time quality from then on.
        step_ns: by how much UTC jumped; 0 when this only corrects an earlier stretch.
        from_ns: boot time of the last observation of the old clock, or of the start of the corrected stretch.
        to_ns: boot time of the first observation of the new clock, or of the end of the corrected stretch.
        correction_ns: to be added to UTC within the stretch; None where it is not known.
        bound_ns: how far the corrected UTC may be off.
    """

    before: TimeQuality
    after: TimeQuality
    step_ns: int
    from_ns: int
    to_ns: int
    correction_ns: int | None = None
    bound_ns: int | None = None


@dataclass(slots=True)
class _Untrusted:
    """A stretch that was stamped with one offset and without a trusted source."""

    offset_ns: int
    from_ns: int
    to_ns: int
    leaps: int = 0  # Leap seconds that may lie between it and what corrects it.


class Timekeeper:
    """Maps boot time to UTC, and bounds the error.

    `observe` is called before each commit is sealed, and takes two clock reads. It reports a step before it returns, so
    that no value is stamped between a step and its record.

    Args:
        clock: the system's clocks.
        sources: asked in this order; the first that bounds the error decides, otherwise the first that answers. After
            one that answered without a bound, only a source can that is synchronized, or was the last that was.
        boot_id: of this boot of the machine.
        on_step: called with each step and correction, in order.
        on_event: called with `time.state`, `time.source` and `time.step`.
        poll_ns: how often the sources are asked.
        smear_ns: over how long the sources smear a leap second; 0 where they do not.

    Attributes:
        since_ns: boot time since when the state of the clock holds.
        detail: what the source said beside its quality, when it was asked last.
    """

    def __init__(
        self,
        clock: Clock,
        sources: Sequence[ClockSource],
        boot_id: bytes,
        *,
        on_step: Callable[[ClockStep], None],
        on_event: EventSink,
        poll_ns: int = 10**9,
        smear_ns: int = 0,
    ) -> None:
        self._clock = clock
        self._sources = sources
        self._on_step = on_step
        self._on_event = on_event
        self._poll_s = poll_ns / 1e9
        self._seen_ns, offset_ns = read_pair(clock)
        self.quality = TimeQuality(as_of_ns=self._seen_ns, offset_ns=offset_ns, boot_id=boot_id)
        self.since_ns = self._seen_ns
        self.detail: Mapping[str, str | int] = {}
        self._held: TimeQuality | None = None  # The last synchronized quality, until the clock steps.
        self._updates: dict[TimeSource, int | None] = {}  # The last of each source.
        self._void: dict[TimeSource, int | None] | None = None  # Updates from before a step, until one is newer.
        self._why_void = ""
        self._asked_ns = self._seen_ns
        self._steered_ns = clock.steered_ns()  # When the source was asked,
        self._allowed_ns = 0  # and what the bound already allows for of the steering since.
        self._held_steered_ns = 0
        self._suspended_ns = _suspended_ns(clock)
        self._leaps = LeapSeconds(smear_ns)
        self._untrusted: list[_Untrusted] = []

    def utc_of(self, boot_ns: int) -> int:
        """UTC of an instant of boot time, by the current offset."""
        return boot_ns + self.quality.offset_ns

    @property
    def is_smeared(self) -> bool:
        """Whether the bound allows for a leap second that may be smeared now."""
        return self._leaps.is_smeared(self.utc_of(self.quality.as_of_ns))

    def is_met(self, require: Require) -> bool:
        """Whether the clock is as good as required."""
        state = self.quality.state
        if require is Require.ANY:
            return True
        if require is Require.SYNCHRONIZED:
            return state is TimeState.SYNCHRONIZED
        return self.quality.bound_ns is not None and state in (TimeState.SYNCHRONIZED, TimeState.HOLDOVER)

    def observe(self) -> None:
        """Read the clocks; what happened to them since the last observation is reported before this returns."""
        clock = self._clock
        boot_ns = clock.boot_ns()
        moved_ns = clock.utc_ns() - boot_ns - self.quality.offset_ns
        has_run = clock.suspended_ns() - self._suspended_ns < STEP_NS
        if -STEP_NS < moved_ns < STEP_NS and has_run and boot_ns < self._leaps.due_ns:
            self._seen_ns = boot_ns
        else:
            self._observe_exactly()
        self._allow_for_steering()

    def _allow_for_steering(self) -> None:
        """Where the clock is steered to since the source was asked, only its next answer shows."""
        allow_ns = abs(self._clock.steered_ns() - self._steered_ns) - self._allowed_ns
        if self.quality.bound_ns is not None and allow_ns > 0:
            self.quality = replace(self.quality, bound_ns=self.quality.bound_ns + allow_ns)
            self._allowed_ns += allow_ns

    def observe_suspension(self) -> None:
        """Observe if the machine was suspended: what it reads from then on is not as good."""
        if self._clock.suspended_ns() - self._suspended_ns >= STEP_NS:
            self._observe_exactly()

    def _observe_exactly(self) -> tuple[int, int]:
        """(boot time, offset) now, without the error of an interruption between two clock reads; reports a step."""
        boot_ns, offset_ns = read_pair(self._clock)
        step_ns = offset_ns - self.quality.offset_ns
        since_ns, self._seen_ns = self._seen_ns, boot_ns
        if boot_ns >= self._leaps.due_ns:
            self._leap_may_come(boot_ns)
        before_ns, self._suspended_ns = self._suspended_ns, _suspended_ns(self._clock)
        if (suspended_ns := self._suspended_ns - before_ns) >= STEP_NS:
            self._resumed(suspended_ns, since_ns, boot_ns)
        if abs(step_ns) >= STEP_NS:
            self._stepped(step_ns, since_ns, boot_ns, offset_ns)
        return boot_ns, offset_ns

    def _stepped(self, step_ns: int, since_ns: int, boot_ns: int, offset_ns: int) -> None:
        before = self.quality
        self._leaps.note_step(boot_ns)
        reason = f"the clock was set {format_duration(abs(step_ns))} {'forward' if step_ns > 0 else 'back'}"
        after = self._disrupt(reason, since_ns, boot_ns, offset_ns)
        self._on_step(ClockStep(before=before, after=after, step_ns=step_ns, from_ns=since_ns, to_ns=boot_ns))
        data = {"step_ns": step_ns, "from_ns": since_ns, "to_ns": boot_ns}
        self._on_event("time.step", "clock", data)
        self._report_changes(before, after, {"reason": self._why_void})

    def _resumed(self, suspended_ns: int, since_ns: int, boot_ns: int) -> None:
        before = self.quality
        reason = f"the machine was suspended for {format_duration(suspended_ns)}"
        after = self._disrupt(reason, since_ns, boot_ns, before.offset_ns)
        self._report_changes(before, after, {"reason": self._why_void})

    def _disrupt(self, reason: str, since_ns: int, boot_ns: int, offset_ns: int) -> TimeQuality:
        """What the sources have said is void."""
        self._held, self._void = None, dict(self._updates)
        self._why_void = f"{reason}, and its source has not measured it since"
        if self._untrusted and self._untrusted[-1].from_ns > boot_ns:
            self._untrusted.pop()
        if self._untrusted:
            self._untrusted[-1].to_ns = since_ns
        self._untrusted = [*self._untrusted, _Untrusted(offset_ns, boot_ns, boot_ns)][-_UNTRUSTED_LIMIT:]
        self.quality = replace(
            self.quality, state=TimeState.DISRUPTED, bound_ns=None, as_of_ns=boot_ns, offset_ns=offset_ns
        )
        return self.quality

    def _leap_may_come(self, boot_ns: int) -> None:
        before = self.quality.at(boot_ns)
        self._leaps.come()
        if self._held is not None:
            self._held = replace(self._held, leap=0)
        if self._untrusted:  # Which side of it a reading is on is known once it is over.
            for stretch in self._untrusted:
                stretch.leaps += 1
            self._untrusted[-1].to_ns = over_ns = self._leaps.over_ns
            self._untrusted = [*self._untrusted, _Untrusted(before.offset_ns, over_ns, over_ns)][-_UNTRUSTED_LIMIT:]
        bound_ns = None if before.bound_ns is None else before.bound_ns + LEAP_NS
        self.quality = replace(before, state=_unmeasured(before.state), bound_ns=bound_ns)
        self._report_changes(before, self.quality, {"reason": _LEAP})

    async def run(self) -> None:
        """Ask the sources periodically, and observe at once when the clock is set; until cancelled."""
        loop = asyncio.get_running_loop()
        alarm = StepAlarm()
        loop.add_reader(alarm.fd, self._clock_was_set, alarm)
        try:
            while True:
                await self.poll()
                await asyncio.sleep(self._poll_s)
        finally:
            loop.remove_reader(alarm.fd)
            alarm.close()

    def _clock_was_set(self, alarm: StepAlarm) -> None:
        alarm.rearm()
        self.observe()

    async def poll(self) -> None:
        """Ask the sources once, and update the quality."""
        self.observe()
        steered_ns = self._clock.steered_ns()
        report = await self._ask()
        self._updates[report.source] = report.update
        boot_ns, exact_ns = self._observe_exactly()
        offset_ns = self.quality.offset_ns
        report = _beside(report, exact_ns - offset_ns)
        if self._void and any(self._void.values()):  # What another source measured may be of before the step, too.
            self._void.setdefault(report.source, report.update)
        self._leaps.note_report(report, boot_ns)
        judged = self._judge(report, boot_ns, offset_ns, steered_ns)
        before, after = self.quality, self._allow_for_leaps(judged)
        was_asked_ns, self._asked_ns = self._asked_ns, boot_ns
        self.quality, self._steered_ns, self._allowed_ns = after, steered_ns, 0
        self._allow_for_steering()
        self._leaps.expect(after)
        if judged.state is TimeState.SYNCHRONIZED:
            self._held, self._held_steered_ns, self._void = judged, steered_ns, None
            if self._untrusted:
                self._back_annotate(before, report, boot_ns - was_asked_ns)
        elif not self._untrusted and not self._leaps.unmeasured:  # Then the source may be slewing the clock already.
            self._untrusted = [_Untrusted(offset_ns, was_asked_ns, boot_ns)]
        why = self._why_void if self._void is not None else _LEAP if self._leaps.unmeasured else ""
        reasons = [str(each) for each in (why, report.detail.get("reason")) if each]
        self._report_changes(before, after, {**report.detail, **({"reason": "; ".join(reasons)} if reasons else {})})

    def _allow_for_leaps(self, quality: TimeQuality) -> TimeQuality:
        """What is judged, with what leap seconds add to its bound."""
        allowance_ns = self._leaps.allowance_ns(quality.as_of_ns + quality.offset_ns)
        if quality.bound_ns is None or not allowance_ns:
            return quality
        state = _unmeasured(quality.state) if self._leaps.unmeasured else quality.state
        return replace(quality, state=state, bound_ns=quality.bound_ns + allowance_ns)

    async def _ask(self) -> SourceReport:
        first, silences = None, []
        for source in self._sources:
            try:
                report = await source.ask()
            except SourceSilent as error:
                silences.append(str(error))
                continue
            if report.bound_ns is not None and (first is None or self._may_replace(first, report)):
                return report
            first = first or report
        reason = {"reason": "; ".join(silences)} if silences else {}
        if first is None:
            return SourceReport(source=TimeSource.NONE, state=TimeState.FREE_RUNNING, detail=reason)
        return replace(first, detail={**reason, **first.detail})

    def _may_replace(self, first: SourceReport, later: SourceReport) -> bool:
        """Whether a source with a bound decides after one without; in holdover it does if it was synchronized last.

        It knows when it measured last, which may be long before it was asked last: its bound has grown since then.
        """
        was_last = first.may_hold and self._held is not None and self._held.source is later.source
        return later.state is TimeState.SYNCHRONIZED or was_last

    def _judge(self, report: SourceReport, boot_ns: int, offset_ns: int, steered_ns: int) -> TimeQuality:
        quality = TimeQuality(
            source=report.source,
            state=report.state,
            bound_ns=report.bound_ns,
            as_of_ns=boot_ns,
            offset_ns=offset_ns,
            leap=report.leap,
            utc_tai_s=report.utc_tai_s,
            reference=report.reference,
            stratum=report.stratum,
            accuracy=report.accuracy,
            boot_id=self.quality.boot_id,
        )
        if boot_ns + offset_ns < _PLAUSIBLE_UTC_NS:
            return replace(quality, state=TimeState.UNKNOWN, bound_ns=None)
        if self._is_void(report):
            # The source has not measured since the step: its report is about the old clock.
            return replace(quality, state=TimeState.DISRUPTED, bound_ns=None)
        if not report.may_hold:
            self._held = None
        held_ns = None if self._held is None else self._held.bound_at(boot_ns)
        if report.bound_ns is None and self._held is not None and held_ns is not None:
            # The source is lost: the bound of its last report grows with age, and is never replaced by a guess.
            return replace(
                self._held,
                state=TimeState.HOLDOVER,
                bound_ns=held_ns + abs(steered_ns - self._held_steered_ns),
                as_of_ns=boot_ns,
                offset_ns=offset_ns,
            )
        return quality

    def _is_void(self, report: SourceReport) -> bool:
        if self._void is None or report.source is TimeSource.NONE:
            return self._void is not None
        return report.update is not None and report.update == self._void.get(report.source)

    def _back_annotate(self, before: TimeQuality, report: SourceReport, unwatched_ns: int) -> None:
        """Report the correction of each stretch since the clock was last trusted."""
        after, stretches = self.quality, self._untrusted
        self._untrusted = []
        if after.bound_ns is None:
            return
        stretches[-1].to_ns = max(stretches[-1].from_ns, after.as_of_ns)
        # Since the last poll the source may have slewed boot time along with UTC, which is not observable.
        unsure_ns = after.bound_ns - abs(report.correction_ns) + unwatched_ns * MAX_SLEW_PPM // 10**6
        for stretch in stretches:
            drift_ns = after.drift_ppb * (after.as_of_ns - stretch.from_ns) // 10**9
            self._on_step(
                ClockStep(
                    before=before,
                    after=after,
                    step_ns=0,
                    from_ns=stretch.from_ns,
                    to_ns=stretch.to_ns,
                    correction_ns=after.offset_ns + report.correction_ns - stretch.offset_ns,
                    bound_ns=unsure_ns + drift_ns + stretch.leaps * LEAP_NS,
                )
            )

    def _report_changes(self, before: TimeQuality, after: TimeQuality, detail: Mapping[str, str | int]) -> None:
        self.detail = detail
        if (before.source, before.reference) != (after.source, after.reference):
            source = {
                "from": before.source.name.lower(),
                "to": after.source.name.lower(),
                "reference": after.reference.hex(),
                **detail,
            }
            self._on_event("time.source", "clock", source)
        if before.state is not after.state:
            self.since_ns = after.as_of_ns
            state = {
                "from": before.state.name.lower(),
                "to": after.state.name.lower(),
                "bound_ns": after.bound_ns,
                **detail,
            }
            self._on_event("time.state", "clock", state)


def _suspended_ns(clock: Clock) -> int:
    """How long the machine was suspended, without the error of an interruption: the least of a few tries."""
    return min(clock.suspended_ns() for _ in range(5))


def _unmeasured(state: TimeState) -> TimeState:
    return TimeState.HOLDOVER if state is TimeState.SYNCHRONIZED else state


def _beside(report: SourceReport, left_ns: int) -> SourceReport:
    """A report on the system clock as one on the offset that is kept, from which the clock differs by so much."""
    bound_ns = None if report.bound_ns is None else report.bound_ns + abs(left_ns)
    return replace(report, bound_ns=bound_ns, correction_ns=report.correction_ns + left_ns)
