from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import SystemClock
from edge.model import CatalogueGroup, CatalogueTag, DataType, Reading
from edge.scan import Grid, PolledGroup, ScanCounts, Scheduler
from edge.testing.clock import ManualClock, ManualScheduler

MS = 10**6


@given(phase_ns=st.integers(0, 10**9), interval_ns=st.integers(1, 10**9), boot_ns=st.integers(0, 10**15))
def test_a_moment_lies_between_its_due_time_and_the_next(phase_ns: int, interval_ns: int, boot_ns: int) -> None:
    grid = Grid(interval_ns, phase_ns)

    index = grid.index(boot_ns)

    assert grid.due_ns(index) <= boot_ns < grid.due_ns(index + 1)


def _group(interval_ns: int) -> PolledGroup:
    tags = (CatalogueTag(name="t", data_type=DataType.UINT8, address="0"),)
    return PolledGroup(0, CatalogueGroup(device="d", name="g", interval_ns=interval_ns, tags=tags), None)


@pytest.mark.requirement("REQ-READ-01")
@given(
    interval_ns=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["done", "failed", "away"])), max_size=60),
)
def test_due_scans_are_done_skipped_or_failed_to_the_unit(interval_ns: int, steps: list[tuple[int, str]]) -> None:
    """Whatever a device does: scans that take long, fail, or cannot be made at all."""
    group = _group(interval_ns)
    now_ns = 1_000
    group.start(now_ns)
    due_before = now_ns // interval_ns
    for took_ns, outcome in steps:
        if outcome == "away":
            now_ns += took_ns
            group.count_failed(now_ns)
            continue
        now_ns = max(now_ns, group.due_ns) if group.due_ns else now_ns + interval_ns
        tried_early = now_ns // interval_ns == due_before + group.counts.due
        group.begin(now_ns)
        due_before -= tried_early  # A new session is tried out at once, off the grid: one scan more.
        now_ns += took_ns
        if outcome == "done":
            group.finish(Reading(group.catalogue.layout.empty(), now_ns, now_ns), now_ns)
        else:
            group.fail()
            group.due_ns = 0
        counts = group.counts
        assert counts.due == counts.done + counts.skipped + counts.failed

    group.count_failed(now_ns)
    assert group.counts.due == now_ns // interval_ns - due_before


def test_an_overrun_skips_the_scans_it_missed_and_is_reported_once() -> None:
    """A slow device is asked less often; it is never rushed to catch up."""
    group = _group(10)
    group.start(100)
    vectors = group.catalogue.layout.empty()
    late = []
    for now_ns in (110, 145, 185, 190, 215):
        late.append(group.begin(now_ns))
        group.finish(Reading(vectors, now_ns, now_ns), now_ns)

    assert late == [0, 25, 0, 0, 15]
    assert group.counts == ScanCounts(due=11, done=5, skipped=6, failed=0)


async def test_waits_end_in_the_order_they_are_due_and_never_early() -> None:
    clock = SystemClock()
    ended = []

    async def wait(scheduler: Scheduler, due_ns: int) -> None:
        await scheduler.until(due_ns)
        ended.append((due_ns, clock.boot_ns() >= due_ns))

    with Scheduler(clock) as scheduler:
        now_ns = clock.boot_ns()
        dues = [now_ns + offset_ns for offset_ns in (30 * MS, 10 * MS, 20 * MS, -5, 10 * MS + 1)]
        await asyncio.gather(*(wait(scheduler, due_ns) for due_ns in dues))

    assert ended == [(due_ns, True) for due_ns in sorted(dues)]


async def test_a_cancelled_wait_disturbs_no_other() -> None:
    clock = SystemClock()
    with Scheduler(clock) as scheduler:
        now_ns = clock.boot_ns()
        given_up, kept = scheduler.until(now_ns + 5 * MS), scheduler.until(now_ns + 10 * MS)
        given_up.cancel()

        await kept

    assert given_up.cancelled()


async def test_a_wait_can_be_asked_for_from_within_a_call() -> None:
    clock = SystemClock()
    called = []
    with Scheduler(clock) as scheduler:
        last = asyncio.get_running_loop().create_future()

        def again() -> None:
            called.append(clock.boot_ns())
            if len(called) == 3:
                last.set_result(None)
            else:
                scheduler.call_at(called[-1] + MS, again)

        scheduler.call_at(0, again)
        await last

    assert called == sorted(called)


async def test_an_earlier_wait_overtakes_a_later_one_that_is_already_armed() -> None:
    clock = SystemClock()
    with Scheduler(clock) as scheduler:
        later = scheduler.until(clock.boot_ns() + 3_600 * 10**9)

        await scheduler.until(clock.boot_ns() + MS)

        assert not later.done()


async def test_the_manual_scheduler_keeps_the_order_of_the_real_one() -> None:
    clock = ManualClock()
    scheduler = ManualScheduler(clock)
    start_ns = clock.boot_ns()
    waits = [scheduler.until(start_ns + offset_ns) for offset_ns in (30, 10, 20)]

    await scheduler.advance_ns(20)

    assert [wait.done() for wait in waits] == [False, True, True]
    assert clock.boot_ns() == start_ns + 20
