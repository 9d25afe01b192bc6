"""Sets of record numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.numbers import Numbers

_steps = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(-1, 12)), max_size=30)


@given(_steps)
def test_intervals_hold_what_a_set_would(steps: list[tuple[bool, int, int]]) -> None:
    numbers, model = Numbers(), set[int]()
    for is_added, first, more in steps:
        span = set(range(first, first + more + 1))
        if is_added:
            numbers.add(first, first + more)
            model |= span
        else:
            numbers.discard(first, first + more)
            model -= span

    held = [number for first, last in numbers for number in range(first, last + 1)]

    assert held == sorted(model)
    assert len(numbers) == len(model)
    assert all((number in numbers) == (number in model) for number in range(60))


@given(_steps)
def test_intervals_never_touch(steps: list[tuple[bool, int, int]]) -> None:
    numbers = Numbers()
    for is_added, first, more in steps:
        (numbers.add if is_added else numbers.discard)(first, first + more)

    intervals = list(numbers)

    assert all(first <= last for first, last in intervals)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(intervals))
