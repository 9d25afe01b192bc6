from __future__ import annotations

from itertools import pairwise

import pytest

from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import StatusCode
from edge.scan import DeviceState, ScanCounts

MS = 10**6
S = 10**9
NO_COMMUNICATION = StatusCode.BAD_NO_COMMUNICATION


async def test_a_device_is_scanned_at_once_and_then_on_its_grid(new_plant) -> None:
    async with new_plant() as plant:
        start_ns = plant.clock.boot_ns() + 35 * MS
        plant.clock.advance_ns(35 * MS)
        device = plant.poll(plant.device(), 100 * MS)

        await plant.scheduler.advance_ns(300 * MS)

        asked = [block.asked_at_ns - start_ns for block in plant.sink.blocks]
        assert asked == [0, 65 * MS, 165 * MS, 265 * MS]
        assert device.counts() == ScanCounts(due=4, done=4)
        assert plant.sink.kinds() == ["device.up"]


async def test_a_slow_device_is_asked_less_often_and_its_skipped_scans_are_counted(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.answer_ns = 250 * MS
        device = plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(3 * S)

        counts = device.counts()
        assert counts.done == driver.reads - 1 == 10
        assert counts.due == counts.done + counts.skipped + 1
        assert counts.skipped == 20
        assert plant.sink.kinds() == ["device.up", "poll.overrun"]


async def test_a_slow_group_takes_turns_with_a_fast_one_of_the_same_device(new_plant) -> None:
    """One session answers one question at a time: the longest due is asked first, and none twice in a row for it."""
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS, 1 * S)
        await plant.scheduler.advance_ns(1)
        driver.answer_ns = 1_500 * MS

        await plant.scheduler.advance_ns(30 * S)

        turns = [block.group for block in plant.sink.blocks]
        assert abs(turns.count(0) - turns.count(1)) <= 2


@pytest.mark.requirement("REQ-READ-03")
async def test_a_device_that_hangs_fails_or_is_slow_never_delays_another(new_plant) -> None:
    async with new_plant() as plant:
        ill = [plant.device() for _ in range(4)]
        ill[0].is_hanging = True
        ill[1].failure = DeviceUnreachable("cut")
        ill[2].answer_ns = 7 * S
        ill[3].refusal = ProtocolViolation("unit", 1, 2, b"\x01")
        for number, driver in enumerate(ill):
            plant.poll(driver, 100 * MS, name=f"ill-{number}")
        healthy = plant.poll(plant.device(), 100 * MS, name="healthy")

        await plant.scheduler.advance_ns(60 * S)

        assert healthy.counts() == ScanCounts(due=601, done=601)
        mine = [block for block in plant.sink.blocks if block.group == healthy.groups[0].number]
        assert {b.asked_at_ns - a.asked_at_ns for a, b in pairwise(mine[1:])} == {100 * MS}


async def test_scans_that_were_due_before_the_device_was_connected_are_a_gap(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.connect_ns = 350 * MS
        plant.poll(driver, 100 * MS, 1 * S)
        started_ns = plant.clock.boot_ns()

        await plant.scheduler.advance_ns(5 * S)

        assert [gap[:3] for gap in plant.sink.gaps] == [(0, started_ns, started_ns + 350 * MS)]


@pytest.mark.requirement("REQ-READ-02")
async def test_a_loss_is_recorded_once_as_bad_tags_a_gap_and_an_event(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 100 * MS, 200 * MS)
        await plant.scheduler.advance_ns(1 * S)
        before = len(plant.sink.blocks)
        driver.failure = DeviceUnreachable("no answer from 192.0.2.10")

        await plant.scheduler.advance_ns(30 * S)

        lost = plant.sink.blocks[before:]
        assert [block.group for block in lost] == [0, 1]
        assert all(block.status == ((0, 1, NO_COMMUNICATION),) for block in lost)
        assert [gap[2] for gap in plant.sink.gaps] == [None, None]
        assert plant.sink.kinds() == ["device.up", "device.down"]
        assert device.state is DeviceState.DOWN
        assert device.reason == "no answer from 192.0.2.10"


@pytest.mark.requirement("REQ-READ-02")
async def test_the_gap_runs_from_the_first_failed_request_to_recovery(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)
        last_ns = plant.sink.blocks[-1].asked_at_ns
        driver.failure, driver.answer_ns = DeviceUnreachable("gone"), 30 * MS
        await plant.scheduler.advance_ns(5 * S)
        driver.failure = None

        await plant.scheduler.advance_ns(10 * S)

        (_, from_ns, still_open, _, _), (_, from_again_ns, to_ns, status, detail) = plant.sink.gaps
        assert from_ns == from_again_ns == last_ns + 100 * MS
        assert still_open is None
        back = next(block for block in plant.sink.blocks if block.asked_at_ns == to_ns)
        assert (back.positions, back.status) == (None, ())
        assert (status, detail) == (NO_COMMUNICATION, "gone")
        assert plant.sink.kinds() == ["device.up", "device.down", "device.up"]


async def test_an_answer_that_the_end_of_the_gateway_cuts_off_is_a_gap(new_plant) -> None:
    """The device has told a value by then that is on no record: what it tells may not be had a second time."""
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 100 * MS, 10 * S)
        await plant.scheduler.advance_ns(1 * S)
        driver.is_hanging = True
        await plant.scheduler.advance_ns(150 * MS)
        asked_ns = device.waiting_since_ns

        device.close(plant.clock.boot_ns())

        assert [gap[:3] for gap in plant.sink.gaps] == [(0, asked_ns, plant.clock.boot_ns())]


@pytest.mark.requirement("REQ-READ-02")
async def test_nothing_looks_fresh_while_a_device_is_silent(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)
        driver.is_hanging = True
        before = len(plant.sink.blocks)

        await plant.scheduler.advance_ns(300 * S)

        (lost,) = plant.sink.blocks[before:]
        assert lost.status == ((0, 1, NO_COMMUNICATION),)
        assert driver.sessions <= 1


@pytest.mark.parametrize(
    "behaviour",
    [
        {"refusal": DeviceUnreachable("switched off")},
        {"refusal": DeviceRefused("one client only")},
        {"failure": ProtocolViolation("byte count", 10, 300, b"\xff" * 100)},
        {"is_hanging": True},
    ],
    ids=["off", "refuses", "violates", "silent"],
)
async def test_a_device_that_is_ill_from_the_start_is_on_record_and_comes_back(new_plant, behaviour) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        for name, value in behaviour.items():
            setattr(driver, name, value)
        device = plant.poll(driver, 1 * S)
        await plant.scheduler.advance_ns(100 * S)

        assert device.state is DeviceState.DOWN
        assert [block.status for block in plant.sink.blocks] == [((0, 1, NO_COMMUNICATION),)]
        assert len(plant.sink.gaps) == 1

        driver.refusal = driver.failure = None
        driver.is_hanging = False
        await plant.scheduler.advance_ns(40 * S)

        assert device.state is DeviceState.UP
        assert plant.sink.kinds()[-1] == "device.up"
        counts = device.counts()
        assert counts.due == counts.done + counts.skipped + counts.failed


async def test_a_refusal_asks_for_a_person_and_is_retried_slowly(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.refusal = DeviceRefused("bad password")
        plant.poll(driver, 1 * S)

        await plant.scheduler.advance_ns(60 * S)

        assert plant.sink.events == [("device.refused", "press-1", {"reason": "bad password", "code": "TG-D04"})]
        assert 7 <= driver.connects <= 15


async def test_a_violation_keeps_the_offending_bytes(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.failure = ProtocolViolation("transaction", 7, 0, b"\x00\x00\x01")
        plant.poll(driver, 1 * S)

        await plant.scheduler.advance_ns(1)

        kind, subject, data = plant.sink.events[0]
        assert (kind, subject) == ("device.protocol", "press-1")
        assert data == {"field": "transaction", "expected": "7", "got": "0", "bytes": "000001"}


async def test_answers_that_were_refused_and_unknown_addresses_are_events(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.violations = ("unit: expected 1, got 2",)
        driver.status = ((0, 1, StatusCode.BAD_ADDRESS),)
        plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(300 * MS)

        assert plant.sink.kinds().count("device.address") == 1
        assert ("device.address", "press-1", {"group": "100000000 ns", "tags": "t0", "count": 1}) in plant.sink.events
        assert plant.sink.kinds().count("device.protocol") == 4


@pytest.mark.requirement("REQ-READ-01")
async def test_due_scans_are_counted_to_the_unit_through_every_outage(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 100 * MS, 300 * MS)
        for failure in (None, DeviceUnreachable("a"), None, ProtocolViolation("b", 1, 2), None):
            driver.failure = failure
            await plant.scheduler.advance_ns(7 * S)

            counts = device.counts()
            assert counts.due == counts.done + counts.skipped + counts.failed
        on_the_grid = 35 * S // (100 * MS) + 35 * S // (300 * MS)
        assert on_the_grid <= counts.due <= on_the_grid + 1 + 2 * driver.connects  # Each session is tried out at once.
        assert counts.done == sum(1 for block in plant.sink.blocks if not block.status)


async def test_a_bug_in_a_driver_ends_the_task(new_plant) -> None:
    """It is not caught: the service manager starts us again from the disk."""
    async with new_plant() as plant:
        driver = plant.device()
        driver.failure = ZeroDivisionError("a bug")
        plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(1)

        assert isinstance(plant.tasks[0].exception(), ZeroDivisionError)
        assert driver.sessions == 0


async def test_stopping_closes_the_session(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(50 * MS)
        assert driver.sessions == 1

    assert driver.sessions == 0


async def test_an_idle_device_causes_no_wake_ups(new_plant) -> None:
    """Standing cost: no timer runs between two scans, and none while a device is away but the next attempt's."""
    async with new_plant() as plant:
        driver = plant.device()
        driver.refusal = DeviceUnreachable("off")
        plant.poll(driver, 1 * MS)

        await plant.scheduler.advance_ns(3_600 * S)

        assert driver.connects < 3_600 / 4 + 10
        assert plant.tasks[0].done() is False


async def test_a_device_that_connects_and_never_answers_is_tried_more_and_more_rarely(new_plant) -> None:
    """Only values show that a device is back: a session that opens does not."""
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)
        driver.failure = DeviceUnreachable("deaf")
        await plant.scheduler.advance_ns(16 * S)
        before = driver.connects

        await plant.scheduler.advance_ns(80 * S)

        assert 10 <= driver.connects - before <= 20
