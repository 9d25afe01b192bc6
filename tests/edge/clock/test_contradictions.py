"""A source whose time jumps: its old time and its new one cannot both be right, and the bound must cover both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.clock import SourceReport, TimeSource, TimeState
from edge.clock.contradiction import DOUBTED_NS, SETTLES_INTERVALS, Contradictions

US, MS, S = 10**3, 10**6, 10**9
UNSURE_NS = 50 * US


class Source:
    """A source that is asked each second, and measures as often."""

    def __init__(self) -> None:
        self.boot_ns, self.correction_ns = 100 * S, 0
        self._contradictions = Contradictions()

    def ask(self, moved_ns: int = 0, *, after_ns: int = S, state: TimeState = TimeState.SYNCHRONIZED) -> SourceReport:
        self.boot_ns += after_ns
        self.correction_ns += moved_ns
        bound_ns = None if state is TimeState.FREE_RUNNING else abs(self.correction_ns) + UNSURE_NS
        report = SourceReport(
            source=TimeSource.CHRONY, state=state, bound_ns=bound_ns, correction_ns=self.correction_ns
        )
        return self._contradictions.judge(report, moved_ns, self.boot_ns, S)

    def settle(self) -> SourceReport:
        for _ in range(SETTLES_INTERVALS - 1):
            assert self.ask().state is TimeState.DISRUPTED
        return self.ask()


def test_moves_within_what_was_stated_are_no_contradiction() -> None:
    source = Source()

    states = {source.ask(moved_ns).state for moved_ns in (0, 50 * US, -50 * US, 49 * US)}

    assert states == {TimeState.SYNCHRONIZED}


def test_a_jump_leaves_no_bound_until_the_source_has_settled() -> None:
    source = Source()
    source.ask()

    first, later = source.ask(10 * MS), source.settle()

    assert (first.state, first.bound_ns) == (TimeState.DISRUPTED, None)
    assert later.state is TimeState.HOLDOVER
    assert later.detail["jump_ns"] == 10 * MS


def test_the_bound_then_covers_the_old_time_and_the_new_one() -> None:
    source = Source()
    source.correction_ns = 30 * MS
    source.ask()
    source.ask(-10 * MS)

    report = source.settle()

    assert report.correction_ns == 20 * MS
    assert report.bound_ns is not None
    assert report.bound_ns >= 30 * MS + UNSURE_NS  # The old time says that the clock is off by this.


def test_a_source_that_returns_to_what_it_said_before_is_believed_again() -> None:
    source = Source()
    source.ask()
    source.ask(10 * MS)
    source.settle()
    source.ask(-10 * MS)

    assert source.settle().state is TimeState.SYNCHRONIZED


def test_a_small_jump_is_believed_once_the_old_time_may_have_drifted_as_far() -> None:
    source = Source()
    source.ask()
    source.ask(MS)
    source.settle()

    assert source.ask(after_ns=5 * S).state is TimeState.HOLDOVER
    assert source.ask(after_ns=20 * S).state is TimeState.SYNCHRONIZED  # 50 us a second.


def test_a_new_time_that_is_kept_for_an_hour_is_believed() -> None:
    source = Source()
    source.ask()
    source.ask(60 * S)
    source.settle()

    assert source.ask(after_ns=DOUBTED_NS - 60 * S).state is TimeState.HOLDOVER
    assert source.ask(after_ns=120 * S).state is TimeState.SYNCHRONIZED


def test_a_source_that_begins_anew_has_contradicted_nothing() -> None:
    source = Source()
    source.ask()
    source.ask(state=TimeState.FREE_RUNNING)

    assert source.ask(60 * S).state is TimeState.SYNCHRONIZED


@given(
    jump_ns=st.integers(-(10**9), 10**9),
    drift_ppb=st.integers(-50_000, 50_000),
    polls=st.lists(st.integers(S // 10, 60 * S), min_size=12, max_size=40),
)
def test_the_bound_covers_the_truth_whichever_side_of_a_jump_was_right(
    jump_ns: int, drift_ppb: int, polls: list[int]
) -> None:
    source = Source()
    source.ask()
    old_ns, at_ns = source.correction_ns, source.boot_ns
    source.ask(jump_ns)
    for after_ns in polls:
        report = source.ask(after_ns=after_ns)
        if report.bound_ns is None or report.state is TimeState.SYNCHRONIZED:
            continue
        drifted_ns = drift_ppb * (source.boot_ns - at_ns) // 10**9
        assert abs(old_ns + drifted_ns) <= report.bound_ns + 1
        assert abs(source.correction_ns) <= report.bound_ns
