"""A reading keeps the calibration that it had, in whatever order the records come."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from edge.seal import Calibration, Calibrations
from edge.verify.calibrations import CalibrationHistory

DAY_NS = 86_400 * 10**9

entries = st.builds(
    Calibration,
    device=st.just("plc"),
    tag=st.sampled_from(["a", "b"]),
    instrument=st.sampled_from(["", "TT-1", "TT-2"]),
    certificate=st.sampled_from(["", "C-1"]),
    due=st.none() | st.integers(0, 9),
    since_ns=st.integers(0, 9).map(lambda day: day * DAY_NS),
)
records = st.lists(st.lists(entries, min_size=1, max_size=3).map(lambda held: Calibrations("p", tuple(held))))


def history_of(said: list[Calibrations]) -> CalibrationHistory:
    history = CalibrationHistory()
    for place, content in enumerate(said):
        history.note(place, content)
    return history


def spans(history: CalibrationHistory) -> dict[tuple[str, str], object]:
    return {key: history.of(*key) for key in history.tags() if history.of(*key)}


@pytest.mark.requirement("REQ-CALIB-01")
@given(records, st.randoms(), st.integers(-1, 11 * DAY_NS))
def test_the_order_of_arrival_changes_nothing(said: list[Calibrations], random: object, at_ns: int) -> None:
    other = [*said, *said]
    random.shuffle(other)  # type: ignore[attr-defined]

    ours, theirs = history_of(said), history_of(other)

    assert spans(ours) == spans(theirs)
    for tag in "ab":
        held = [each for content in said for each in content.entries if each.tag == tag and each.since_ns <= at_ns]
        newest = max((each.since_ns for each in held), default=None)
        found = ours.at("plc", tag, at_ns)
        assert found is None or (found in held and found.since_ns == newest and not found.is_empty)
        if held and all(not each.is_empty for each in held if each.since_ns == newest):
            assert found is not None


@given(records)
def test_calibrations_of_a_tag_do_not_overlap_and_overdue_times_lie_within(said: list[Calibrations]) -> None:
    history = history_of(said)

    for key in history.tags():
        held = history.of(*key)
        assert all(one.to_ns <= other.from_ns for one, other in pairwise(held))
        for span in held:
            if span.overdue_ns is not None:
                first, last = span.overdue_ns
                assert span.from_ns <= first < last <= span.to_ns
                assert span.calibration.is_overdue(first)
                assert not span.calibration.is_overdue(span.from_ns) or first == span.from_ns


@given(records, records)
def test_what_a_withdrawn_record_said_is_forgotten_unless_another_says_it(
    said: list[Calibrations], withdrawn: list[Calibrations]
) -> None:
    history = history_of(said)
    for place, content in enumerate(withdrawn):
        history.note(("false", place), content)
    for place in range(len(withdrawn)):
        history.withdraw(("false", place))

    assert spans(history) == spans(history_of(said))


def test_a_tag_that_lost_its_instrument_has_no_calibration_since() -> None:
    had = Calibration("plc", "a", "TT-1", since_ns=1)
    history = history_of([Calibrations("p", (Calibration("plc", "a", since_ns=5),)), Calibrations("p", (had,))])

    assert [history.at("plc", "a", at_ns) for at_ns in (0, 1, 4, 5)] == [None, had, had, None]
    assert history.at("plc", "b", 9) is None
