from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.intervals import IntervalSet

stretches = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))))


def _numbers(stretches: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in stretches for number in range(first, last + 1)}


@given(stretches)
def test_it_is_the_set_of_what_was_added_in_as_few_intervals_as_can_be(added: list[tuple[int, int]]) -> None:
    found = IntervalSet(added)

    pairs = list(found)
    assert _numbers(pairs) == _numbers(added)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(pairs))
    assert {number for number in range(80) if number in found} == _numbers(added)
    assert found.end == max(_numbers(added), default=-1) + 1


@given(stretches, st.integers(0, 70), st.integers(0, 20))
def test_what_is_missing_is_exactly_the_rest(added: list[tuple[int, int]], first: int, more: int) -> None:
    missing = list(IntervalSet(added).missing(first, first + more))

    assert _numbers(missing) == set(range(first, first + more + 1)) - _numbers(added)


@given(stretches, st.integers(1, 5))
def test_a_place_of_limited_size_keeps_the_longest(added: list[tuple[int, int]], count: int) -> None:
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
