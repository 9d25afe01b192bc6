"""Identity and tag metadata are queried once in a session, and never cost the readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.errors import DeviceUnreachable
from edge.model import Identity, TagMetadata
from edge.scan import DeviceState
from edge.testing.devices import MemoryDevice, MemoryPlan

MS = 10**6
S = 10**9
METADATA = (TagMetadata(unit="Cel"),)


class DescribedDevice(MemoryDevice):
    """A device that also knows its tags; `says` is raised when it is an error."""

    says: Sequence[TagMetadata] | Exception = METADATA
    asked = 0
    who: Identity | None = None

    async def tag_metadata(self, plan: MemoryPlan) -> Sequence[TagMetadata]:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def identity(self) -> Identity:
        return await super().identity() if self.who is None else self.who


async def reconnect(plant: Any, driver: MemoryDevice) -> None:
    driver.failure = DeviceUnreachable("gone")
    await plant.scheduler.advance_ns(1 * S)
    driver.failure = None
    await plant.scheduler.advance_ns(10 * S)


async def test_tag_metadata_is_handed_on_with_every_session_before_the_first_scan(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = DescribedDevice(plant.clock, plant.scheduler)
        plant.poll(driver, 100 * MS, 1 * S)

        await plant.scheduler.advance_ns(1)
        assert plant.sink.tag_metadata == [(0, METADATA), (1, METADATA)]
        await reconnect(plant, driver)

        assert driver.connects > 1
        assert plant.sink.tag_metadata == [(0, METADATA), (1, METADATA)] * driver.connects


async def test_a_device_without_tag_metadata_hands_on_none(new_plant: Any) -> None:
    """Metadata of an earlier session, or of another driver, do not stay."""
    async with new_plant() as plant:
        plant.poll(plant.device(), 100 * MS)

        await plant.scheduler.advance_ns(1)

        assert plant.sink.tag_metadata == [(0, ())]


async def test_a_device_that_is_lost_over_its_tag_metadata_is_read_without(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = DescribedDevice(plant.clock, plant.scheduler)
        driver.says = DeviceUnreachable("gone")
        device = plant.poll(driver, 100 * MS)

        await plant.scheduler.advance_ns(20 * S)

        assert (driver.asked, device.state) == (2, DeviceState.UP)
        assert plant.sink.tag_metadata == []


async def test_a_device_that_is_lost_over_a_query_once_is_asked_again(new_plant: Any) -> None:
    """One loss may be coincidence."""
    async with new_plant() as plant:
        driver = DescribedDevice(plant.clock, plant.scheduler)
        driver.says = DeviceUnreachable("gone")
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        driver.says = METADATA

        await plant.scheduler.advance_ns(10 * S)

        assert plant.sink.tag_metadata == [(0, METADATA)]


async def test_an_identity_is_handed_on_once_and_when_it_is_another(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        await reconnect(plant, driver)
        driver.firmware = "2.0"
        await reconnect(plant, driver)

        assert [said.firmware for _, said in plant.sink.identities] == ["1.0", "2.0"]
        [event] = [data for kind, _, data in plant.sink.events if kind == "device.identity"]
        assert (event["was_firmware"], event["firmware"]) == ("1.0", "2.0")


async def test_a_device_that_was_swapped_while_the_gateway_was_off_is_another(new_plant: Any) -> None:
    async with new_plant() as plant:
        device = plant.poll(plant.device(), 100 * MS)
        device.identity = Identity(vendor="Tidegate", product="memory", firmware="1.0", serial="of before")

        await plant.scheduler.advance_ns(1)

        assert plant.sink.kinds() == ["device.up", "device.identity"]


async def test_a_device_that_says_nothing_of_itself_is_not_another(new_plant: Any) -> None:
    async with new_plant() as plant:
        driver = DescribedDevice(plant.clock, plant.scheduler)
        device = plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        driver.who = Identity()
        await reconnect(plant, driver)

        assert device.identity is not None
        assert device.identity.serial == "1"
        assert "device.identity" not in plant.sink.kinds()


async def test_a_change_of_further_texts_is_no_event(new_plant: Any) -> None:
    """Some devices count their starts in their identity."""
    async with new_plant() as plant:
        driver = DescribedDevice(plant.clock, plant.scheduler)
        driver.who = Identity(vendor="Acme", more=(("starts", "1"),))
        plant.poll(driver, 100 * MS)
        await plant.scheduler.advance_ns(1)
        driver.who = Identity(vendor="Acme", more=(("starts", "2"),))
        await reconnect(plant, driver)

        assert [said.more for _, said in plant.sink.identities] == [(("starts", "1"),), (("starts", "2"),)]
        assert "device.identity" not in plant.sink.kinds()
