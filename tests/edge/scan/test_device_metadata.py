"""Identity and tag metadata are queried once in a session, after the first values, and never cost the readings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edge.driver import IdentityMode
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import CatalogueTag, DataType, Identity, Notification, TagMetadata
from edge.scan import DevicePoller, DeviceState
from edge.testing.devices import MemoryDevice, MemoryPlan

MS = 10**6
S = 10**9
METADATA = (TagMetadata(unit="Cel"),)
REFUSED, SILENT = Identity(), None
TAG = CatalogueTag(name="level", data_type=DataType.FLOAT64, address="1")


class DescribedDevice(MemoryDevice):
    """A device that also knows its tags; `says` is raised when it is an error, and so is `who`.

    Attributes:
        is_deaf_after: it answers nothing more in a session in which it was asked what it is.
        questions: how often it was asked what it is.
    """

    says: Sequence[TagMetadata] | Exception = METADATA
    who: Identity | Exception | None = Identity(vendor="Acme", serial="1")
    is_deaf_after = False
    asked = 0
    questions = 0

    async def tag_metadata(self, plan: MemoryPlan) -> Sequence[TagMetadata]:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def identity(self) -> Identity | None:  # type: ignore[override] # A device in memory has always one.
        self.questions += 1
        if self.is_deaf_after:
            self.failure = DeviceUnreachable("deaf")
        if isinstance(self.who, Exception):
            raise self.who
        return self.who


def described(plant: Any, **settings: Any) -> DescribedDevice:
    driver = DescribedDevice(plant.clock, plant.scheduler)
    for name, value in settings.items():
        setattr(driver, name, value)
    return driver


async def reconnect(plant: Any, driver: MemoryDevice) -> None:
    driver.failure = DeviceUnreachable("gone")
    await plant.scheduler.advance_ns(1 * S)
    driver.failure = None
    await plant.scheduler.advance_ns(10 * S)


async def test_nothing_is_asked_for_before_every_scan_group_has_values(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = described(plant)
        driver.answer_ns = 10 * MS
        device = plant.poll(driver, 100 * MS, 1 * S)

        await plant.scheduler.advance_ns(15 * MS)
        first = driver.questions, driver.asked, [block.group for block in plant.sink.blocks]
        await plant.scheduler.advance_ns(15 * MS)

        assert first == (0, 0, [0])
        assert (driver.questions, driver.asked, device.connects) == (1, 2, 1)
        assert [block.group for block in plant.sink.blocks] == [0, 1]


async def test_a_subscribed_device_is_asked_after_its_first_notification(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = described(plant)
        device = plant.poll(driver, subscribed=[TAG])
        await plant.scheduler.advance_ns(1 * S)
        before = driver.questions

        value = (np.ones(1),), (np.zeros(1, np.uint16),), (np.zeros(1, np.uint32),)
        driver.notify[device.groups[0].plan.layout](Notification(*value, asked_at_ns=1, answered_at_ns=2))
        await plant.scheduler.advance_ns(1)

        assert (before, driver.questions) == (0, 1)


async def test_a_scan_that_was_under_way_before_that_question_is_not_forgotten(new_plant: Any) -> None:
    """A notification that comes during a scan may let the question begin, and its answer end, before the scan does."""
    async with new_plant() as plant:
        driver = described(plant)
        device = plant.poll(driver, 100 * MS, subscribed=[TAG])
        await plant.scheduler.advance_ns(1 * S)
        driver.is_hanging = True
        await plant.scheduler.advance_ns(150 * MS)
        asked_ns = device.waiting_since_ns
        value = (np.ones(1),), (np.zeros(1, np.uint16),), (np.zeros(1, np.uint32),)
        driver.notify[device.groups[1].plan.layout](Notification(*value, asked_at_ns=1, answered_at_ns=2))
        await plant.scheduler.advance_ns(1)
        assert driver.questions == 1

        device.close(plant.clock.boot_ns())

        assert (0, asked_ns, plant.clock.boot_ns()) in [gap[:3] for gap in plant.sink.gaps]


async def test_no_scan_begins_while_a_device_is_asked_what_it_is(new_plant: Any) -> None:
    """Devices answer one question at a time."""
    async with new_plant() as plant:
        driver, answers = described(plant), asyncio.Event()

        async def identity() -> Identity:
            await answers.wait()
            return Identity(vendor="slow")

        driver.identity = identity  # type: ignore[method-assign]
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)
        before = driver.reads
        answers.set()
        await plant.scheduler.advance_ns(1 * S)

        assert (before, driver.reads) == (1, 12)
        assert [said for said, _ in plant.sink.identities] == [Identity(vendor="slow")]


async def test_a_device_that_hangs_over_the_question_is_given_up_and_asked_no_more(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = described(plant)
        driver.identity = asyncio.Event().wait  # type: ignore[assignment, method-assign]
        device = plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(60 * S)

        assert (device.state, device.connects) == (DeviceState.UP, 2)


async def test_scans_go_on_while_a_device_says_what_its_tags_are(new_plant: Any) -> None:
    """Many tags take long."""
    async with new_plant() as plant:
        driver = described(plant)
        driver.tag_metadata = lambda plan: asyncio.Event().wait()  # type: ignore[method-assign]
        plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(1 * S)

        assert driver.reads == 11


async def test_tag_metadata_is_handed_on_with_every_session(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = described(plant)
        device = plant.poll(driver, 100 * MS, 1 * S)

        await plant.scheduler.advance_ns(1)
        assert plant.sink.tag_metadata == [(0, METADATA), (1, METADATA)]
        await reconnect(plant, driver)

        assert plant.sink.tag_metadata == [(0, METADATA), (1, METADATA)] * device.connects
        assert device.connects == 2


async def test_a_device_without_tag_metadata_hands_on_none(new_plant: Any) -> None:
    """Metadata of an earlier session, or of another driver, do not stay."""
    async with new_plant() as plant:
        plant.poll(plant.device(), 100 * MS)

        await plant.scheduler.advance_ns(1)

        assert plant.sink.tag_metadata == [(0, ())]


async def test_a_device_that_is_lost_over_its_tag_metadata_is_read_without(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = described(plant, says=DeviceUnreachable("gone"))
        device = plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(20 * S)

        assert (driver.asked, device.state) == (2, DeviceState.UP)
        assert plant.sink.tag_metadata == []


async def test_a_device_that_is_lost_over_its_tag_metadata_once_is_asked_again(new_plant: Any) -> None:
    """One loss may be coincidence."""
    async with new_plant() as plant:
        driver = described(plant, says=DeviceUnreachable("gone"))
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        driver.says = METADATA

        await plant.scheduler.advance_ns(10 * S)

        assert plant.sink.tag_metadata == [(0, METADATA)]


async def test_an_identity_is_handed_on_with_every_session_and_the_time_of_its_connect(new_plant: Any) -> None:
    """What was read in the session before the question was read from the device that was found."""
    async with new_plant() as plant:
        driver = described(plant)
        driver.answer_ns, driver.connect_ns = 30 * MS, 5 * MS
        start_ns = plant.clock.boot_ns()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(50 * MS)
        driver.connect_ns = 0
        await reconnect(plant, driver)

        (said, since_ns), (again, later_ns) = plant.sink.identities
        assert said == again == driver.who
        assert since_ns == start_ns + 5 * MS == plant.sink.blocks[0].asked_at_ns
        assert later_ns > start_ns + 1 * S


@pytest.mark.parametrize(
    "harm",
    [
        {"who": DeviceUnreachable("gone")},
        {"who": ProtocolViolation("length", "3 to 254", 2, b"\0\1\0\0\0\2\1\x2b")},
        {"who": SILENT},
        {"who": REFUSED, "is_deaf_after": True},
    ],
    ids=["lost", "broken answer", "no answer", "deaf after a refusal"],
)
async def test_a_device_to_which_the_question_does_harm_is_asked_once(new_plant: Any, harm: dict[str, Any]) -> None:
    async with new_plant() as plant:
        driver = described(plant, **harm)
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)

        await reconnect(plant, driver)
        await reconnect(plant, driver)

        assert driver.questions == 1
        assert device.state is DeviceState.UP
        assert plant.sink.identities == [(None, 0)]


@pytest.mark.parametrize("is_deaf", [True, False], ids=["lost", "healthy"])
async def test_a_loss_after_the_question_says_so_and_how_to_ask_again(new_plant: Any, is_deaf: bool) -> None:
    async with new_plant() as plant:
        driver = described(plant, who=REFUSED, is_deaf_after=is_deaf)
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)
        driver.failure = DeviceUnreachable("gone")
        await plant.scheduler.advance_ns(1 * S)

        [reason] = [data["reason"] for kind, _, data in plant.sink.events if kind == "device.down"]
        assert ("ask_identity: always" in reason) is is_deaf


async def test_a_device_that_refuses_the_question_is_asked_with_every_session(new_plant: Any) -> None:
    """Firmware of tomorrow may know it, and a refusal costs nothing."""
    async with new_plant() as plant:
        driver = described(plant, who=REFUSED)
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1 * S)
        await reconnect(plant, driver)

        assert driver.questions == device.connects == 2
        assert plant.sink.identities == []


async def test_a_device_that_once_answered_is_asked_again_after_a_silence_and_a_loss(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = described(plant)
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        driver.who = SILENT
        await reconnect(plant, driver)
        driver.failure, driver.who = DeviceUnreachable("gone"), DeviceUnreachable("gone")
        await plant.scheduler.advance_ns(100 * MS)
        driver.failure = None
        while driver.questions < 3:
            await plant.scheduler.advance_ns(10 * MS)
        driver.who = Identity(vendor="other")
        await plant.scheduler.advance_ns(10 * S)

        assert [said.vendor for said, _ in plant.sink.identities] == ["Acme", "other"]
        assert (device.asks_identity, driver.questions) == (True, 4)


async def test_a_device_that_answered_and_is_lost_over_the_question_twice_in_a_row_is_asked_no_more(
    new_plant: Any,
) -> None:
    """It was exchanged for one that does not bear the question."""
    async with new_plant() as plant:
        driver = described(plant)
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        driver.who = DeviceUnreachable("gone")

        await reconnect(plant, driver)

        assert driver.questions == 1 + 2
        assert (device.state, plant.sink.identities[-1]) == (DeviceState.UP, (None, 0))


class ReconnectingDevice(DescribedDevice):
    """Its sessions open their connections again by themselves."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connected_ns = 0
        self.has_connected = asyncio.Event()

    async def reconnected(self, since_ns: int) -> int:
        while self.connected_ns <= since_ns:
            self.has_connected.clear()
            await self.has_connected.wait()
        return self.connected_ns

    def reconnect(self, now_ns: int) -> None:
        self.connected_ns = now_ns
        self.has_connected.set()


async def test_a_device_whose_session_connects_again_by_itself_is_asked_again_at_times(new_plant: Any) -> None:
    """It may have been exchanged meanwhile; one that closes every connection is not asked with each of them."""
    async with new_plant() as plant:
        driver = ReconnectingDevice(plant.clock, plant.scheduler)
        plant.poll(driver, 1 * S)
        for _ in range(100):
            await plant.scheduler.advance_ns(10 * S)
            driver.reconnect(plant.clock.boot_ns())
        driver.who = Identity(vendor="other")
        await plant.scheduler.advance_ns(1000 * S)

        since = [since_ns for _, since_ns in plant.sink.identities]
        assert [said.vendor for said, _ in plant.sink.identities] == ["Acme", "Acme", "other"]
        assert since == [10 * S, 600 * S, 1010 * S]


@pytest.mark.parametrize(("mode", "questions"), [("never", 0), ("auto", 1), ("always", 3)])
async def test_the_setting_decides_when_the_question_is_asked(
    new_plant: Any, mode: IdentityMode, questions: int
) -> None:
    async with new_plant() as plant:
        driver = described(plant, who=SILENT)
        device: DevicePoller = plant.poll(driver, 100 * MS, identity=mode)
        await plant.scheduler.advance_ns(1)
        await reconnect(plant, driver)
        await reconnect(plant, driver)

        assert (driver.questions, device.connects) == (questions, 3)


@pytest.mark.parametrize(("mode", "questions"), [("never", 0), ("auto", 0), ("always", 1)])
async def test_what_an_earlier_run_found_out_holds(new_plant: Any, mode: IdentityMode, questions: int) -> None:
    async with new_plant() as plant:
        driver = described(plant)
        device: DevicePoller = plant.poll(driver, 100 * MS, identity=mode)
        device.recall_identity(has_answered=False, is_unanswered=True)

        await plant.scheduler.advance_ns(1 * S)

        assert driver.questions == questions
