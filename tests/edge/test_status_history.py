"""What the status says of the time before it."""

from __future__ import annotations

import pytest

from edge.gateway.history import StorageTimes
from edge.health import LastHour

S, MIN, DAY = 10**9, 60 * 10**9, 86_400 * 10**9


def test_what_was_missed_more_than_an_hour_ago_is_forgotten() -> None:
    last_hour = LastHour(0, {})
    for minute in range(1, 181):
        last_hour.note(minute * MIN, {"missed plc": min(minute, 90)})  # It missed one a minute until minute 90.

    assert last_hour.growth("missed plc", 90) == 0
    assert last_hour.growth("missed new", 3) == 3


def test_within_the_first_hour_all_since_the_start_counts() -> None:
    last_hour = LastHour(0, {"missed plc": 1})

    assert last_hour.growth("missed plc", 8) == 7


def test_a_rate_is_not_told_before_it_is_known() -> None:
    last_hour = LastHour(0, {})

    assert last_hour.per_day("bytes", 1_000, 59 * S) is None
    assert last_hour.per_day("bytes", 1_000, DAY // 100) == 100_000


def test_the_oldest_waiting_record_has_its_age_to_a_second() -> None:
    times = StorageTimes(0, 100)
    for second in range(1, 61):
        times.note(second * S, 100 + 10 * second, 100)

    assert times.age_ns(355, 60 * S) == (34 * S, False)  # Stored between seconds 25 and 26.
    assert times.age_ns(99, 60 * S) == (60 * S, True)  # It was there before.
    assert times.age_ns(700, 60 * S) == (0, False)


def test_delivered_records_are_forgotten() -> None:
    times = StorageTimes(0, 0)
    for second in range(1, 100_001):
        times.note(second * S, 10 * second, 10 * second - 5)

    assert times.age_ns(999_995, 100_000 * S) == (0, False)
    assert len(times._ends) < 5


@pytest.mark.parametrize("days", [1, 10])
def test_a_long_outage_costs_little_memory_and_the_age_stays_right(days: int) -> None:
    times = StorageTimes(0, 0)
    seconds = days * 86_400
    for second in range(1, seconds + 1):
        times.note(second * S, 10 * second, 5)

    age_ns, is_older = times.age_ns(5, seconds * S)

    assert len(times._ends) <= 4_096
    assert not is_older
    assert abs(age_ns - seconds * S) <= seconds * S // 100
