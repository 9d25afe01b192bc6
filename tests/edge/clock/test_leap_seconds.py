"""A leap second that is inserted, deleted, slewed, missed or smeared: bounds, order and corrections stay right."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from edge.clock import Require, TimeSource, TimeState
from edge.clock.leap import LeapSeconds
from edge.health.clock import clock_status
from edge.testing.clock import ManualClock
from tests.support.leap_scenarios import MIDNIGHT_NS, SCENARIOS, Record, watch, watch_one

MS, S = 10**6, 10**9


def run(name: str, seed: int = 1) -> Record:
    [record] = asyncio.run(watch(seed, [name]))
    return record


@pytest.mark.parametrize("name", SCENARIOS)
def test_bounds_order_and_corrections_are_right(name: str) -> None:
    record = run(name)

    assert record.outcome.uncovered == []
    assert list(record.disordered()) == []
    assert list(record.wrong_corrections()) == []
    assert len(record.outcome.bounded) > len(record.outcome.samples) // 5, "no bound is right, and no help"


@pytest.mark.parametrize(("name", "step_s"), [("insert, set", -1), ("delete, set", 1)])
def test_a_leap_second_that_is_set_is_a_step_with_a_time_record(name: str, step_s: int) -> None:
    record = run(name)

    [step] = record.steps
    assert abs(step.step_ns - step_s * S) < MS
    assert step.before.bound_ns is not None
    assert step.before.bound_ns > S, "readings just before the step may be of after it"
    assert (step.after.state, step.after.bound_ns) == (TimeState.DISRUPTED, None)
    assert record.outcome.samples[-1].state is TimeState.SYNCHRONIZED
    assert (record.outcome.samples[-1].bound_ns or S) < 20 * MS


@pytest.mark.parametrize("name", ["insert, slewed", "delete, slewed"])
def test_one_that_is_slewed_is_no_step_and_always_has_a_bound(name: str) -> None:
    record = run(name)

    assert record.steps == []
    assert len(record.outcome.bounded) == len(record.outcome.samples)
    assert max(each.error_ns for each in record.outcome.samples) > 0.9 * S
    assert (record.outcome.samples[-1].bound_ns or S) < 20 * MS


@pytest.mark.parametrize("name", ["insert, slewed", "insert, ignored", "delete, missed"])
def test_without_allowing_for_it_bounds_would_be_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeapSeconds, "expect", lambda *_: None)

    assert run(name).outcome.uncovered


@pytest.mark.parametrize("name", ["insert, smeared", "delete, smeared"])
def test_a_smear_that_is_not_declared_is_not_known(name: str) -> None:
    scenario = replace(SCENARIOS[name], smear_ns=0)
    record = asyncio.run(
        watch_one(name, scenario.model(Random(1)), scenario.seconds, tick_ns=scenario.tick_ns, ticks_per_poll=5)
    )

    assert record.outcome.uncovered
    assert run(name).outcome.uncovered == []


@pytest.mark.parametrize(("leap", "from_midnight_ns", "is_allowed_for"), [
    (1, -2 * S, False), (1, 0, True), (2, -S, True), (0, 0, False),
])  # fmt: skip
async def test_what_ptp4l_announces_is_allowed_for_until_it_has_measured(
    new_watched, leap: int, from_midnight_ns: int, is_allowed_for: bool
) -> None:
    watched = new_watched(ManualClock(utc_ns=MIDNIGHT_NS - 10 * S))
    await watched.poll(source=TimeSource.PTP4L, leap=leap)
    watched.clock.advance_ns(9 * S + from_midnight_ns)
    watched.keeper.observe()

    assert (watched.state is TimeState.HOLDOVER) == is_allowed_for
    assert ((watched.keeper.quality.bound_ns or 0) > S) == is_allowed_for
    assert is_allowed_for == any("a leap second" in str(data.get("reason")) for _, data in watched.events)

    for _ in range(4):
        await watched.poll(leap=0)
    assert (watched.state, watched.keeper.quality.bound_ns) == (TimeState.SYNCHRONIZED, 5 * MS)


async def test_a_measurement_that_may_be_of_before_does_not_end_it(new_watched) -> None:
    watched = new_watched(ManualClock(utc_ns=MIDNIGHT_NS - 10 * S))
    await watched.poll(leap=1)
    await watched.poll(after_ns=11 * S, update=7, leap=0)
    await watched.poll(update=7)
    before = watched.state
    await watched.poll(update=8)

    assert (before, watched.state) == (TimeState.HOLDOVER, TimeState.SYNCHRONIZED)


@pytest.mark.parametrize(("midnight", "is_allowed_for"), [("2027-01-01", True), ("2027-07-01", True),
                                                          ("2027-03-01", False)])  # fmt: skip
async def test_without_a_source_one_may_come_with_the_end_of_each_half_year(
    new_watched, midnight: str, is_allowed_for: bool
) -> None:
    midnight_ns = int(datetime.fromisoformat(midnight).replace(tzinfo=UTC).timestamp()) * S
    watched = new_watched(ManualClock(utc_ns=midnight_ns - 100 * S))
    await watched.poll()
    watched.source.report = None
    await watched.poll()
    await watched.poll(after_ns=200 * S)

    assert watched.state is TimeState.HOLDOVER
    assert ((watched.keeper.quality.bound_ns or 0) > S) == is_allowed_for


async def test_a_smear_is_in_the_bound_and_in_the_status_for_its_hours_only(new_watched) -> None:
    said = []
    for hours in (-13, -11, 11, 13):
        watched = new_watched(ManualClock(utc_ns=MIDNIGHT_NS + hours * 3600 * S))
        watched.keeper._leaps = LeapSeconds(24 * 3600 * S)
        await watched.poll()
        status = clock_status(watched.keeper, watched.clock.boot_ns(), Require.BOUNDED)
        said.append((status.state, status.is_smeared, status.bound_ns))

    bare, smeared = ("SYNCHRONIZED", False, 5 * MS), ("SYNCHRONIZED", True, 5 * MS + S // 2)
    assert said == [bare, smeared, smeared, bare]
