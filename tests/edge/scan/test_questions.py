"""What a person asks a device that is scanned: between its scans, one at a time, and no scan is skipped for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from edge.driver import pause
from edge.errors import DeviceUnreachable
from edge.model import CatalogueTag, DataType
from edge.scan import Busy, DevicePoller, ScanCounts
from tests.edge.scan.conftest import Plant

MS = 10**6
S = 10**9
WITHIN_S = 60.0

Question = Callable[[Any], Awaitable[str]]


def taking(plant: Plant, *steps_ns: int) -> Question:
    """A question of requests that take so long, with a pause before each but the first."""

    async def question(session: object) -> str:
        for number, step_ns in enumerate(steps_ns):
            if number:
                await pause()
            await plant.scheduler.until(plant.clock.boot_ns() + step_ns)
        return "answered"

    return question


def ask(device: DevicePoller, question: Question, within_s: float = WITHIN_S) -> asyncio.Task[str]:
    return asyncio.ensure_future(device.ask(question, within_s))


def starts(plant: Plant) -> set[int]:
    """The times between the scans that were not the first of their session."""
    times = [block.asked_at_ns for block in plant.sink.blocks[1:]]
    return {later - earlier for earlier, later in pairwise(times)}


async def test_questions_all_the_time_delay_no_scan_and_skip_none(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.answer_ns = 10 * MS
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(20 * MS)

        async def hammer() -> None:
            while True:
                await device.ask(taking(plant, 15 * MS), WITHIN_S)
                answers.append(plant.clock.boot_ns())

        answers: list[int] = []
        people = [asyncio.ensure_future(hammer()) for _ in range(3)]
        await plant.scheduler.advance_ns(10 * S)
        for person in people:
            person.cancel()

        assert device.counts() == ScanCounts(due=101, done=101)
        assert starts(plant) == {100 * MS}
        assert len(answers) > 300


async def test_a_question_of_many_requests_lets_each_scan_go_first(new_plant) -> None:
    async with new_plant() as plant:
        device = plant.poll(plant.device(), 100 * MS)
        await plant.scheduler.advance_ns(1)

        asked = ask(device, taking(plant, *[20 * MS] * 40))
        await plant.scheduler.advance_ns(2 * S)

        assert asked.result() == "answered"
        assert starts(plant) == {100 * MS}
        assert device.counts() == ScanCounts(due=21, done=21)


async def test_a_scan_that_is_due_waits_for_the_request_under_way_and_for_no_other(new_plant) -> None:
    """How long the first request takes is not known before: it can be late once, and is not asked so again."""
    async with new_plant() as plant:
        device = plant.poll(plant.device(), 100 * MS)
        await plant.scheduler.advance_ns(50 * MS)

        asked = ask(device, taking(plant, 70 * MS, 70 * MS), within_s=0.2)
        await plant.scheduler.advance_ns(5 * S)
        with pytest.raises(Busy, match="leave no 140 ms between them"):
            await asked

        late = [block.asked_at_ns % (100 * MS) for block in plant.sink.blocks[1:]]
        assert [each for each in late if each] == [20 * MS]
        assert device.counts().skipped == 0


async def test_scans_without_time_between_them_are_a_sentence(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        driver.answer_ns = 80 * MS
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)

        asked = ask(device, taking(plant, 1 * MS), within_s=0.05)
        await plant.scheduler.advance_ns(1 * S)

        with pytest.raises(Busy, match="the scans of press-1 leave no 160 ms between them"):
            await asked


async def test_one_question_waits_for_another_and_not_for_ever(new_plant) -> None:
    async with new_plant() as plant:
        device = plant.poll(plant.device(), 10 * S)
        await plant.scheduler.advance_ns(1)
        first = ask(device, taking(plant, 3 * S))
        await plant.scheduler.settle()
        second, third = ask(device, taking(plant, 1 * S)), ask(device, taking(plant, 1 * S), within_s=0.05)
        with pytest.raises(Busy, match="being asked other questions"):
            await third

        await plant.scheduler.advance_ns(5 * S)

        assert (first.result(), second.result()) == ("answered", "answered")


@pytest.mark.parametrize("after_ns", [5 * MS, 25 * MS])
async def test_a_question_that_is_withdrawn_ends_with_the_request_under_way(new_plant, after_ns: int) -> None:
    """In a request, and between two of them, where it waits for its turn after a scan."""
    async with new_plant() as plant:
        device = plant.poll(plant.device(), 100 * MS)
        await plant.scheduler.advance_ns(50 * MS)
        begun: list[int] = []

        async def question(session: object) -> str:
            for _ in range(100):
                begun.append(plant.clock.boot_ns())
                await plant.scheduler.until(plant.clock.boot_ns() + 20 * MS)
                await pause()
            return "answered"

        asked = ask(device, question)
        await plant.scheduler.advance_ns(after_ns)
        asked.cancel()
        await plant.scheduler.settle()
        count = len(begun)
        other = ask(device, taking(plant, 1 * MS))
        await plant.scheduler.advance_ns(1 * S)

        assert asked.cancelled()
        assert len(begun) == count == 1
        assert other.result() == "answered"
        assert starts(plant) == {100 * MS}


async def test_a_question_that_waits_for_its_turn_is_withdrawn_at_once(new_plant) -> None:
    async with new_plant() as plant:
        device = plant.poll(plant.device(), 10 * S)
        await plant.scheduler.advance_ns(1)
        first, second = ask(device, taking(plant, 1 * S)), ask(device, taking(plant, 1 * S))
        await plant.scheduler.settle()

        second.cancel()
        await plant.scheduler.advance_ns(3 * S)

        assert (first.result(), second.cancelled()) == ("answered", True)


async def test_devices_behind_one_connection_share_their_time(new_plant) -> None:
    """A request to one of them would delay the scans of the other on the line."""
    async with new_plant() as plant:
        one = plant.poll(plant.device(), 1 * S, name="one")
        other = plant.poll(plant.device(), 100 * MS, name="other", questions=one._questions)
        await plant.scheduler.advance_ns(1)

        asked = ask(one, taking(plant, *[30 * MS] * 10))
        await plant.scheduler.advance_ns(3 * S)

        assert asked.result() == "answered"
        mine = [block.asked_at_ns for block in plant.sink.blocks if block.group == other.groups[0].number]
        assert {later - earlier for earlier, later in pairwise(mine[1:])} == {100 * MS}


async def test_a_device_that_only_notifies_can_be_asked_at_any_time(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        tag = CatalogueTag(name="level", data_type=DataType.UINT16, address="1")
        device = plant.poll(driver, subscribed=[tag])
        await plant.scheduler.settle()
        with pytest.raises(DeviceUnreachable, match="press-1 is not connected yet"):
            await device.ask(taking(plant, 1 * S), WITHIN_S)

        device._up()
        asked = ask(device, taking(plant, 1 * S))
        await plant.scheduler.advance_ns(2 * S)

        assert asked.result() == "answered"


async def test_the_end_of_the_session_ends_the_question(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(10 * MS)
        asked = ask(device, taking(plant, 60 * MS, 10 * MS))  # It waits after its first request.
        await plant.scheduler.advance_ns(70 * MS)
        driver.failure = DeviceUnreachable("cut")

        await plant.scheduler.advance_ns(40 * S)

        with pytest.raises(DeviceUnreachable, match="the session with press-1 ended before it answered"):
            await asked
        with pytest.raises(DeviceUnreachable, match="cut"):
            await device.ask(taking(plant, 1 * MS), WITHIN_S)


async def test_a_question_that_is_never_answered_ends_with_the_session(new_plant) -> None:
    """The watchdog of the session sees it: scans do not wait for ever."""
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 1 * S)
        await plant.scheduler.advance_ns(10 * MS)
        asked = ask(device, taking(plant, 3600 * S))

        await plant.scheduler.advance_ns(70 * S)

        with pytest.raises(DeviceUnreachable):
            await asked
        assert driver.connects == 2
        assert device.counts().done > 20


async def test_what_goes_wrong_in_a_question_costs_the_session_nothing(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)

        async def question(session: object) -> str:
            raise DeviceUnreachable("no answer")

        with pytest.raises(DeviceUnreachable, match="no answer"):
            await device.ask(question, WITHIN_S)
        await plant.scheduler.advance_ns(1 * S)

        assert driver.connects == 1
        assert plant.sink.kinds() == ["device.up"]
