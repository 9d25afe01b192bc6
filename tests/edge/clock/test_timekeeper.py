from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import (
    KernelSource,
    Require,
    SourceReport,
    SourceSilent,
    SystemClock,
    Timekeeper,
    TimeSource,
    TimeState,
)
from edge.testing.clock import ManualClock

MS = 10**6
S = 10**9


@pytest.mark.requirement("REQ-TIME-02")
def test_before_the_first_answer_nothing_is_claimed(watched) -> None:
    quality = watched.keeper.quality

    assert (quality.source, quality.state, quality.bound_ns) == (TimeSource.NONE, TimeState.UNKNOWN, None)
    assert watched.keeper.utc_of(watched.clock.boot_ns()) == watched.clock.utc_ns()


async def test_a_good_answer_becomes_the_time_quality(watched) -> None:
    await watched.poll()

    quality = watched.keeper.quality
    assert (quality.source, quality.state, quality.bound_ns) == (TimeSource.CHRONY, TimeState.SYNCHRONIZED, 5 * MS)
    assert quality.as_of_ns == watched.clock.boot_ns()
    assert [kind for kind, _ in watched.events] == ["time.source", "time.state"]


async def test_an_unchanged_state_is_not_reported_again(watched) -> None:
    for _ in range(5):
        await watched.poll()

    assert [kind for kind, _ in watched.events] == ["time.source", "time.state"]


async def test_a_step_is_reported_before_the_next_reading_can_be_stamped(watched) -> None:
    await watched.poll()
    before_ns = watched.clock.boot_ns()
    watched.clock.advance_ns(10 * MS)
    watched.clock.step_ns(-3 * S)

    watched.keeper.observe()

    (step,) = [step for step in watched.steps if step.step_ns]
    assert (step.step_ns, step.from_ns, step.to_ns) == (-3 * S, before_ns, watched.clock.boot_ns())
    assert (step.before.state, step.after.state) == (TimeState.SYNCHRONIZED, TimeState.DISRUPTED)
    assert step.after.bound_ns is None
    assert watched.keeper.utc_of(watched.clock.boot_ns()) == watched.clock.utc_ns()
    assert ("time.step", {"step_ns": -3 * S, "from_ns": before_ns, "to_ns": watched.clock.boot_ns()}) in watched.events


@given(
    step_ns=st.one_of(st.integers(-3 * MS, 3 * MS), st.integers(-(10**18), 10**18)), elapsed_ns=st.integers(0, 3600 * S)
)
def test_a_change_above_the_limit_is_a_step_and_one_below_is_not(step_ns: int, elapsed_ns: int) -> None:
    clock, steps = ManualClock(), []
    keeper = Timekeeper(clock, [], b"", on_step=steps.append, on_event=lambda *_: None)
    clock.advance_ns(elapsed_ns)
    clock.step_ns(step_ns)

    keeper.observe()
    keeper.observe()

    assert [step.step_ns for step in steps] == ([step_ns] if abs(step_ns) >= 1 * MS else [])


async def test_a_change_too_small_for_a_step_stays_in_the_offset_and_counts_in_the_bound(watched) -> None:
    """The offset changes with a TIME record only: otherwise two readings could change places."""
    await watched.poll()
    offset_ns = watched.keeper.quality.offset_ns
    watched.clock.step_ns(-600_000)

    await watched.poll()

    assert watched.keeper.quality.offset_ns == offset_ns
    assert watched.keeper.quality.bound_ns == 5 * MS + 600_000
    watched.clock.step_ns(-600_000)
    await watched.poll()
    assert [step.step_ns for step in watched.steps if step.step_ns] == [-1_200_000]


async def test_the_bound_grows_by_what_the_clock_is_slewed_until_the_source_is_asked_again(watched) -> None:
    """It may have begun to follow something else just after it was asked."""
    await watched.poll()
    watched.clock.advance_ns(100 * MS, steered_ns=-9 * MS)
    watched.keeper.observe()
    slewed_ns = watched.keeper.quality.bound_ns
    watched.clock.advance_ns(100 * MS, steered_ns=9 * MS)
    watched.keeper.observe()
    back_ns = watched.keeper.quality.bound_ns

    await watched.poll()

    assert (slewed_ns, back_ns) == (14 * MS, 14 * MS)
    assert watched.keeper.quality.bound_ns == 5 * MS


async def test_the_bound_of_a_lost_source_grows_by_what_the_clock_is_slewed(watched) -> None:
    """What was steering the clock may have left it in a slew."""
    await watched.poll()
    watched.source.report = None
    for _ in range(3):
        watched.clock.advance_ns(S, steered_ns=90 * MS)
        await watched.keeper.poll()

    elapsed_ns = 3 * (S + 90 * MS)
    assert watched.keeper.quality.bound_ns == 5 * MS + 270 * MS + elapsed_ns * 50 // 10**6


async def test_a_clock_that_was_set_while_the_machine_slept_is_noticed_however_long_it_slept(watched) -> None:
    await watched.poll()
    watched.clock.advance_ns(8 * 3600 * S)
    watched.clock.step_ns(MS)

    watched.keeper.observe()

    assert [step.step_ns for step in watched.steps] == [MS]


async def test_a_step_voids_what_the_source_said_until_it_has_looked_again(watched) -> None:
    """A time daemon that has not measured since the step goes on praising the clock it no longer knows."""
    await watched.poll()
    update = watched.source.report.update
    watched.clock.step_ns(3600 * S)
    watched.keeper.observe()

    await watched.poll(update=update)
    assert watched.state is TimeState.DISRUPTED
    assert watched.keeper.quality.bound_ns is None

    await watched.poll()
    assert watched.state is TimeState.SYNCHRONIZED


async def test_a_step_found_while_polling_is_reported_too(watched) -> None:
    await watched.poll()
    watched.clock.step_ns(2 * S)

    await watched.poll()

    assert [step.step_ns for step in watched.steps if step.step_ns] == [2 * S]


async def test_a_silent_source_leaves_its_last_bound_to_grow(watched) -> None:
    await watched.poll()
    watched.source.report = None

    await watched.poll(after_ns=100 * S)

    assert watched.state is TimeState.HOLDOVER
    assert watched.keeper.quality.bound_ns == 5 * MS + 100 * S * 50_000 // 10**9
    assert watched.keeper.quality.source is TimeSource.CHRONY
    assert watched.events[-1][1]["reason"] == "nobody answers at 127.0.0.1:323"


async def test_a_source_that_lost_its_own_reference_leaves_the_last_bound_to_grow(watched) -> None:
    await watched.poll()

    await watched.poll(after_ns=10 * S, state=TimeState.FREE_RUNNING, bound_ns=None, leap=3)

    assert watched.state is TimeState.HOLDOVER
    assert watched.keeper.quality.bound_ns == 5 * MS + 500_000


@given(polls=st.lists(st.tuples(st.booleans(), st.integers(0, 10**11)), min_size=1, max_size=30))
async def test_the_bound_never_shrinks_without_a_new_measurement(polls: list[tuple[bool, int]]) -> None:
    clock = ManualClock()
    report = SourceReport(source=TimeSource.CHRONY, state=TimeState.SYNCHRONIZED, bound_ns=MS, update=1)

    class Source:
        answers = True

        async def ask(self) -> SourceReport:
            if not self.answers:
                raise SourceSilent("gone")
            return report

    source = Source()
    keeper = Timekeeper(clock, [source], b"", on_step=lambda _: None, on_event=lambda *_: None)
    await keeper.poll()
    last_ns = clock.boot_ns()
    for answers, elapsed_ns in polls:
        clock.advance_ns(elapsed_ns)
        source.answers = answers
        await keeper.poll()
        last_ns = clock.boot_ns() if answers else last_ns
        bound_ns = keeper.quality.bound_at(clock.boot_ns())
        assert bound_ns is not None
        assert bound_ns >= MS + (clock.boot_ns() - last_ns) * 50_000 // 10**9


async def test_nothing_is_held_over_a_step(watched) -> None:
    await watched.poll()
    watched.source.report = None
    watched.clock.step_ns(1 * S)

    await watched.poll()

    assert watched.state is TimeState.DISRUPTED
    assert watched.keeper.quality.bound_ns is None


async def test_the_next_source_is_asked_when_the_first_is_silent(watched) -> None:
    watched.source.report = None
    keeper = Timekeeper(
        watched.clock, [watched.source, KernelSource()], b"", on_step=lambda _: None, on_event=lambda *_: None
    )

    await keeper.poll()

    assert keeper.quality.source is TimeSource.KERNEL
    assert keeper.quality.bound_ns is None


class _Says:
    """A time source that says always the same."""

    def __init__(self, source: TimeSource, state: TimeState, bound_ns: int | None, update: int = 1) -> None:
        self.report = SourceReport(source=source, state=state, bound_ns=bound_ns, update=update)

    async def ask(self) -> SourceReport:
        return self.report


async def test_a_source_without_a_bound_gives_way_to_one_that_is_synchronized(watched) -> None:
    ptp = _Says(TimeSource.PTP4L, TimeState.FREE_RUNNING, None)
    chrony = _Says(TimeSource.CHRONY, TimeState.SYNCHRONIZED, MS)
    watched.keeper._sources = [ptp, chrony]
    await watched.poll()
    synchronized = watched.keeper.quality
    chrony.report = _Says(TimeSource.CHRONY, TimeState.HOLDOVER, MS).report
    watched.keeper._held = None
    await watched.poll()

    assert (synchronized.source, synchronized.bound_ns) == (TimeSource.CHRONY, MS)
    assert (watched.keeper.quality.source, watched.keeper.quality.bound_ns) == (TimeSource.PTP4L, None)


async def test_when_both_are_lost_the_source_that_was_synchronized_last_says_how_its_bound_grows(watched) -> None:
    """It has measured long before it was asked last, and only it knows when."""
    ptp = _Says(TimeSource.PTP4L, TimeState.HOLDOVER, None)
    chrony = _Says(TimeSource.CHRONY, TimeState.SYNCHRONIZED, MS)
    watched.keeper._sources = [ptp, chrony]
    await watched.poll()
    chrony.report = _Says(TimeSource.CHRONY, TimeState.HOLDOVER, 5 * MS).report
    await watched.poll()
    both_lost = watched.keeper.quality
    ptp.report = replace(ptp.report, may_hold=False)
    await watched.poll()

    assert (both_lost.source, both_lost.state, both_lost.bound_ns) == (TimeSource.CHRONY, TimeState.HOLDOVER, 5 * MS)
    assert watched.keeper.quality.bound_ns is None


async def test_an_earlier_bound_is_not_held_while_the_clock_follows_what_cannot_be_trusted(watched) -> None:
    await watched.poll()
    await watched.poll(bound_ns=None, state=TimeState.FREE_RUNNING, may_hold=False)
    untrusted = watched.keeper.quality
    watched.source.report = None
    await watched.poll()

    assert (untrusted.state, untrusted.bound_ns) == (TimeState.FREE_RUNNING, None)
    assert watched.keeper.quality.bound_ns is None


async def test_another_source_that_has_not_measured_since_a_step_is_not_believed(watched) -> None:
    """Only one source is asked at a time: what the next one measured may be of before the step."""
    await watched.poll()
    watched.clock.step_ns(S)
    ptp = _Says(TimeSource.PTP4L, TimeState.SYNCHRONIZED, MS)
    watched.keeper._sources = [ptp]
    await watched.poll()
    before = watched.state
    ptp.report = _Says(TimeSource.PTP4L, TimeState.SYNCHRONIZED, MS, update=2).report
    await watched.poll()

    assert (before, watched.state) == (TimeState.DISRUPTED, TimeState.SYNCHRONIZED)


async def test_the_first_synchronization_corrects_what_was_stamped_before(watched) -> None:
    start_ns = watched.clock.boot_ns()
    await watched.poll(state=TimeState.FREE_RUNNING, bound_ns=None)

    await watched.poll(state=TimeState.SYNCHRONIZED, correction_ns=400 * MS, bound_ns=405 * MS)

    (step,) = watched.steps
    assert (step.step_ns, step.from_ns, step.to_ns) == (0, start_ns, watched.clock.boot_ns())
    assert step.correction_ns == 400 * MS
    assert step.bound_ns is not None
    assert step.bound_ns >= 5 * MS


async def test_a_clock_that_is_good_from_the_start_needs_no_correction(watched) -> None:
    await watched.poll(correction_ns=MS)

    assert watched.steps == []


async def test_a_correction_names_the_quality_readings_had_just_before_it(watched) -> None:
    """A batch that is still open is sealed under it: an earlier offset would be a wrong time."""
    await watched.poll(state=TimeState.FREE_RUNNING, bound_ns=None)
    watched.clock.step_ns(-9 * S)
    watched.keeper.observe()
    stamped_under = watched.keeper.quality

    await watched.poll(state=TimeState.SYNCHRONIZED, bound_ns=MS)

    assert [step.before for step in watched.steps[1:]] == [stamped_under, stamped_under]
    assert [step.correction_ns for step in watched.steps[1:]] == [-9 * S, 0]


async def test_each_stretch_between_steps_gets_its_own_correction(new_watched) -> None:
    """A gateway without a battery-backed clock starts in 1970, works, and says later what time it really was."""
    from_1970 = ManualClock(utc_ns=0)
    watched = new_watched(from_1970)
    await watched.poll(state=TimeState.FREE_RUNNING, bound_ns=None)
    assert watched.state is TimeState.UNKNOWN
    years_ns = 1_767_225_600 * S
    from_1970.step_ns(years_ns)
    watched.keeper.observe()

    await watched.poll(state=TimeState.SYNCHRONIZED, correction_ns=7 * MS, bound_ns=8 * MS)

    step, first, second = watched.steps
    assert step.step_ns == years_ns
    assert (first.correction_ns, second.correction_ns) == (years_ns + 7 * MS, 7 * MS)
    assert first.to_ns <= second.from_ns == step.to_ns
    assert watched.state is TimeState.SYNCHRONIZED


async def test_a_source_that_praises_a_clock_in_1970_is_not_believed(new_watched) -> None:
    watched = new_watched(ManualClock(utc_ns=0))

    await watched.poll()

    assert watched.state is TimeState.UNKNOWN
    assert watched.keeper.quality.bound_ns is None


async def test_many_steps_before_the_first_synchronization_stay_bounded(watched) -> None:
    for _ in range(100):
        watched.clock.advance_ns(S)
        watched.clock.step_ns(S)
        watched.keeper.observe()

    await watched.poll()

    assert len([step for step in watched.steps if not step.step_ns]) == 16


@pytest.mark.parametrize(
    ("state", "bound_ns", "met"),
    [
        (TimeState.SYNCHRONIZED, MS, {"synchronized", "bounded", "any"}),
        (TimeState.SYNCHRONIZED, None, {"synchronized", "any"}),
        (TimeState.HOLDOVER, MS, {"bounded", "any"}),
        (TimeState.FREE_RUNNING, None, {"any"}),
        (TimeState.DISRUPTED, None, {"any"}),
    ],
)
async def test_what_a_plant_requires_of_the_clock(watched, state, bound_ns, met) -> None:
    await watched.poll(state=state, bound_ns=bound_ns)

    assert {require.value for require in Require if watched.keeper.is_met(require)} == met


async def test_another_server_behind_the_source_is_on_record(watched) -> None:
    await watched.poll()

    await watched.poll(reference=b"\x0a\x00\x00\x02")

    kind, data = watched.events[-1]
    assert (kind, data["reference"]) == ("time.source", "0a000002")


def test_an_interrupted_look_at_the_clocks_is_no_step() -> None:
    """Between the two clock reads of a look the process may lose the processor for milliseconds."""

    class Interrupted(ManualClock):
        lost_ns = 0

        def utc_ns(self) -> int:
            utc_ns = super().utc_ns() + self.lost_ns
            self.advance_ns(self.lost_ns)
            self.lost_ns = 0
            return utc_ns

    clock, steps = Interrupted(), []
    keeper = Timekeeper(clock, [], b"", on_step=steps.append, on_event=lambda *_: None)
    clock.lost_ns = 50 * MS

    keeper.observe()

    assert steps == []


def test_the_real_clocks_do_not_step_by_themselves() -> None:
    steps: list[object] = []
    keeper = Timekeeper(SystemClock(), [], b"", on_step=steps.append, on_event=lambda *_: None)

    for _ in range(20_000):
        keeper.observe()

    assert steps == []


async def test_after_a_suspension_nothing_is_claimed_before_the_clock_was_measured(watched) -> None:
    """The kernel advances both clocks by what a real-time clock says, often to a second: no step shows that."""
    await watched.poll()
    update = watched.source.report.update
    watched.clock.suspend_ns(3600 * S)

    watched.keeper.observe()

    assert (watched.state, watched.keeper.quality.bound_ns, watched.steps) == (TimeState.DISRUPTED, None, [])
    await watched.poll(update=update)
    assert watched.state is TimeState.DISRUPTED
    assert "suspended for 1 h" in str(watched.keeper.detail["reason"])
    since_ns = watched.keeper.since_ns
    await watched.poll(correction_ns=700 * MS, bound_ns=705 * MS)
    assert watched.state is TimeState.SYNCHRONIZED
    [correction] = watched.steps
    assert (correction.from_ns, correction.correction_ns) == (since_ns, 700 * MS)


async def test_a_clock_set_during_a_suspension_is_one_step(watched) -> None:
    await watched.poll()
    watched.clock.suspend_ns(3600 * S)
    watched.clock.step_ns(-2 * S)

    watched.keeper.observe()
    watched.keeper.observe()

    assert [step.step_ns for step in watched.steps] == [-2 * S]
    assert watched.state is TimeState.DISRUPTED


async def test_a_state_that_follows_a_step_says_so_until_it_ends(watched) -> None:
    await watched.poll()
    update = watched.source.report.update
    watched.clock.step_ns(-3600 * S)
    await watched.poll(update=update)
    await watched.poll(update=update)

    step = "the clock was set 1 h back, and its source has not measured it since"
    assert watched.keeper.detail["reason"] == step
    watched.source.report = None
    await watched.poll()
    assert watched.keeper.detail["reason"] == f"{step}; nobody answers at 127.0.0.1:323"
    watched.source.now(update=update)
    await watched.poll()
    assert "reason" not in watched.keeper.detail
