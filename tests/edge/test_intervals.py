"""An interval set is a set of whole numbers, in as few intervals as can be."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.intervals import IntervalSet

stretches = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))))
steps = st.lists(st.tuples(st.sampled_from(["add", "discard"]), st.integers(0, 40), st.integers(-1, 12)), max_size=30)


def _numbers(stretches: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in stretches for number in range(first, last + 1)}


@given(steps)
def test_it_holds_what_a_set_would_in_intervals_that_do_not_touch(steps: list[tuple[str, int, int]]) -> None:
    found, model = IntervalSet(), set[int]()
    for step, first, more in steps:
        getattr(found, step)(first, first + more)
        model = (
            model | _numbers([(first, first + more)]) if step == "add" else model - _numbers([(first, first + more)])
        )

    intervals = list(found)
    assert [number for first, last in intervals for number in range(first, last + 1)] == sorted(model)
    assert (found.count, len(found), bool(found)) == (len(model), len(intervals), bool(model))
    assert all(first <= last for first, last in intervals)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(intervals))
    assert {number for number in range(-1, 80) if number in found} == model
    assert found.end == max(model, default=-1) + 1
    assert not model or found.first == intervals[0]


@given(stretches)
def test_cleared_it_is_as_new(added: list[tuple[int, int]]) -> None:
    found = IntervalSet(added)
    found.clear()

    assert (list(found), found.count, found.end) == ([], 0, 0)


def test_what_is_added_while_it_is_walked_does_not_disturb_the_walk() -> None:
    found = IntervalSet([(0, 4), (10, 14)])

    for first, last in found:
        found.add(first + 5, last + 5)

    assert list(found) == [(0, 19)]


@given(stretches, st.integers(0, 70), st.integers(-1, 20))
def test_a_stretch_is_what_is_in_the_set_and_what_is_missing(
    added: list[tuple[int, int]], first: int, more: int
) -> None:
    wanted = set(range(first, first + more + 1))

    within, missing = (
        list(cut(first, first + more)) for cut in (IntervalSet(added).within, IntervalSet(added).missing)
    )

    assert _numbers(within) == wanted & _numbers(added)
    assert _numbers(missing) == wanted - _numbers(added)
    assert within == sorted(within)
    assert missing == sorted(missing)


@given(stretches, st.integers(1, 5))
def test_storage_of_limited_size_keeps_the_longest(added: list[tuple[int, int]], count: int) -> None:
    """To forget a short stretch costs the fewest records sent again."""
    found = IntervalSet(added)
    kept = found.longest(count)

    assert len(kept) == min(count, len(found))
    assert set(kept) <= set(found)
    lengths = sorted((last - first for first, last in found), reverse=True)
    assert sorted((last - first for first, last in kept), reverse=True) == lengths[: len(kept)]


@given(stretches, stretches)
def test_a_union_holds_both(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    assert _numbers(list(IntervalSet(left).union(IntervalSet(right)))) == _numbers(left) | _numbers(right)
