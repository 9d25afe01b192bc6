"""What is not read in time is a GAP, with its cause: once where it is rare, once a minute where it lasts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edge.errors import DeviceUnreachable
from edge.model import StatusCode
from tests.edge.scan.conftest import MS, Plant, S

SLOW, BUSY, SUSPENDED = (
    (int(StatusCode.BAD_TIMEOUT), "the device was slow"),
    (int(StatusCode.BAD_RESOURCE_UNAVAILABLE), "the gateway was busy"),
    (int(StatusCode.BAD_OUT_OF_SERVICE), "the gateway was suspended"),
)


def stall(plant: Plant, stopped_ns: int, ran_ns: int = 0) -> None:
    """Let time pass in which nothing of the gateway runs; `ran_ns` of it it was ready to."""
    plant.clock.advance_ns(stopped_ns)
    plant.run_time_ns += ran_ns


async def test_a_gateway_that_was_suspended_has_one_gap_for_each_group_that_missed_scans(new_plant) -> None:
    async with new_plant() as plant:
        plant.poll(plant.device(), 100 * MS, 1 * S, 10 * S)
        await plant.scheduler.advance_ns(15 * S)
        last_ns = {block.group: block.answered_at_ns for block in plant.sink.blocks}
        stall(plant, 20 * S)

        await plant.scheduler.advance_ns(15 * S)

        begun = [gap for gap in plant.sink.gaps if gap[2] is None]
        ended = [gap for gap in plant.sink.gaps if gap[2] is not None]
        assert [gap[:3] for gap in begun] == [(0, last_ns[0], None), (1, last_ns[1], None)]
        assert [gap[3:] for gap in begun] == [gap[3:] for gap in ended] == [SUSPENDED] * 2
        for (group, from_ns, to_ns, *_), began in zip(ended, begun, strict=True):
            assert (group, from_ns) == began[:2]
            assert to_ns == min(b.answered_at_ns for b in plant.sink.blocks
                                if b.group == group and b.answered_at_ns > from_ns)  # fmt: skip


async def test_a_device_that_hung_up_while_the_gateway_was_suspended_has_a_gap_with_both_reasons(new_plant) -> None:
    async with new_plant() as plant:
        device = plant.device()
        plant.poll(device, 100 * MS)
        await plant.scheduler.advance_ns(2 * S)
        last_ns = plant.sink.blocks[-1].answered_at_ns
        device.failure = DeviceUnreachable("closed by the device")
        stall(plant, 20 * S)
        await plant.scheduler.advance_ns(S)

        [gap] = plant.sink.gaps
        assert gap[:3] == (0, last_ns, None)
        assert gap[4] == "the gateway was suspended; closed by the device"


async def test_a_suspension_is_a_gap_of_its_own_among_other_holes(new_plant) -> None:
    async with new_plant() as plant:
        plant.poll(plant.device(), 100 * MS)
        await plant.scheduler.advance_ns(2 * S)
        for ran_ns in (S, 0, S):
            stall(plant, S, ran_ns)
            await plant.scheduler.advance_ns(2 * S)
        await plant.scheduler.advance_ns(120 * S)

        ended = [(gap[2] - gap[1], gap[3:]) for gap in plant.sink.gaps if gap[2] is not None]
        assert [reason for _, reason in ended] == [BUSY, SUSPENDED, BUSY]
        assert all(took_ns <= 1100 * MS for took_ns, _ in ended)


@pytest.mark.parametrize(("ran_ns", "cause"), [(20 * S, BUSY), (11 * S, BUSY), (9 * S, SUSPENDED), (0, SUSPENDED)])
async def test_a_gateway_that_ran_or_waited_for_a_processor_was_busy(new_plant, ran_ns: int, cause: object) -> None:
    async with new_plant() as plant:
        plant.poll(plant.device(), 100 * MS)
        await plant.scheduler.advance_ns(2 * S)
        stall(plant, 20 * S, ran_ns)

        await plant.scheduler.advance_ns(2 * S)

        assert [gap[3:] for gap in plant.sink.gaps] == [cause, cause]


@pytest.mark.parametrize(("interval_ns", "ticks"), [(100 * MS, 100), (1 * S, 26), (60 * S, 10)])
async def test_a_gateway_wakes_up_no_more_often_than_its_holes_are_long(
    new_plant, interval_ns: int, ticks: int
) -> None:
    """Where nothing has to be read, each wake-up costs more than most scans."""
    async with new_plant() as plant:
        plant.poll(plant.device(), interval_ns)
        await plant.scheduler.advance_ns(2 * S)
        samples = set()
        for _ in range(10 * S // (10 * MS)):
            await plant.scheduler.advance_ns(10 * MS)
            samples.add(plant.loop_monitor.latest.at_ns)

        assert ticks <= len(samples) <= ticks + 2


async def test_a_hole_begins_beyond_three_intervals(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(2 * S)
        for answer_ns in (199 * MS, 0, 299 * MS, 0):
            driver.answer_ns = answer_ns
            await plant.scheduler.advance_ns(500 * MS)
        await plant.scheduler.advance_ns(2 * S)

        ends_ns = [block.answered_at_ns for block in plant.sink.blocks]
        holes = [(before, after) for before, after in pairwise(ends_ns) if after - before > 300 * MS]
        assert [gap[1:] for gap in plant.sink.gaps] == [(holes[0][0], None, *SLOW), (*holes[0], *SLOW)]


async def test_a_device_that_is_always_slow_says_so_once_a_minute_with_counts(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.answer_ns = 1 * S
        plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(301 * S)

        begun = [gap for gap in plant.sink.gaps if gap[2] is None]
        ended = [gap for gap in plant.sink.gaps if gap[2] is not None]
        assert (len(begun), len(ended)) == (5, 4)
        assert {gap[3] for gap in plant.sink.gaps} == {SLOW[0]}
        assert [b[1] for b in begun[1:]] == [e[2] for e in ended]  # Each begins where the one before ends.
        assert ended[-1][4] == "the device was slow: 55 holes, of 1.01 min in all and 1.1 s at most"


async def test_rare_holes_within_a_minute_of_each_other_are_one_gap(new_plant) -> None:
    async with new_plant() as plant:
        plant.poll(plant.device(), 100 * MS)
        await plant.scheduler.advance_ns(2 * S)
        for stopped_ns in (1 * S, 2 * S, 3 * S):
            stall(plant, stopped_ns)
            await plant.scheduler.advance_ns(10 * S)
        await plant.scheduler.advance_ns(80 * S)

        assert [gap[2] is None for gap in plant.sink.gaps] == [True, False, True, False]
        assert plant.sink.gaps[1][4] == SUSPENDED[1]
        assert plant.sink.gaps[3][4] == ("the gateway was suspended: 2 holes, of 5 s in all and 3 s at most")


async def test_a_device_lost_while_the_gateway_stood_still_has_a_gap_since_its_last_answer(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(2 * S)
        last_ns = plant.sink.blocks[-1].answered_at_ns
        stall(plant, 20 * S)
        driver.failure = DeviceUnreachable("gone")
        await plant.scheduler.advance_ns(2 * S)

        assert [gap[1:4] for gap in plant.sink.gaps] == [(last_ns, None, int(StatusCode.BAD_NO_COMMUNICATION))]


async def test_a_gap_that_counts_holes_ends_with_the_gateway(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.answer_ns = 1 * S
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(90 * S + 500 * MS)

        device.close(plant.clock.boot_ns())

        begun, counted, answer = plant.sink.gaps[-3:]
        assert begun[2] is None
        assert counted[1] == begun[1]
        assert "holes" in counted[4]
        assert answer[1:3] == (device.waiting_since_ns, plant.clock.boot_ns())
