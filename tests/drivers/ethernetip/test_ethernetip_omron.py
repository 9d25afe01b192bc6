"""The driver and an Omron NJ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drivers.ethernetip.browse import discover
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator.codes import Service
from drivers.ethernetip.simulator.controller import Personality
from edge.errors import DeviceRefused
from edge.model import StatusCode
from tests.support.field.ethernetip_omron import OMRON, PACKED, REFUSED, TAGS, omron_server, plant, tags
from tests.support.field.ethernetip_refusals import closing, odd_server
from tests.support.field.ethernetip_refusals import plant as logix_plant
from tests.support.field.ethernetip_refusals import tags as logix_tags

MakeDevice = Callable[..., EtherNetIpDevice]
EXPECTED = [value for _, value in (*TAGS.values(), *REFUSED.values())]
MULTIPLE = bytes((Service.MULTIPLE_SERVICE_PACKET, 2, 0x20, 2))


@pytest.mark.parametrize("personality", [OMRON, PACKED])
@pytest.mark.parametrize("messaging", [None, "unconnected"])
async def test_every_kind_of_variable_is_read(
    make_device: MakeDevice, client: Any, personality: Personality, messaging: str | None
) -> None:
    plc = plant(personality)
    settings = {"messaging": messaging} if messaging else {}
    async with omron_server(plc) as server:
        one = client(make_device(tags(), port=server.port, family="omron", **settings))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(3)]
            size = session._session.message_bytes

    assert [one.values(reading) for reading in readings] == [EXPECTED] * 3
    assert size == (1994 if messaging is None else 504)
    assert plc.services[Service.MULTIPLE_SERVICE_PACKET, 2] == (1 if personality is OMRON else 4)  # Once with Huge.
    assert not plc.services[Service.READ_TAG_FRAGMENTED, None]
    assert plc.writes_asked == 0


async def test_what_it_refuses_is_told_in_its_words(make_device: MakeDevice, client: Any) -> None:
    plc = plant()
    plc.fail("Vials", 0x0C, 0x8010)
    async with omron_server(plc) as server:
        (reading,) = await client(make_device(tags(), port=server.port, family="omron")).read()

    for words in (
        "Nowhere is refused: there is no such tag or object (CIP status 0x05)",
        "Samples[100] is refused: there is no such element (CIP status 0x20/0x8018)",
        "NotPublished is refused: the variable is not accessible; is it published to the network?",
        "Huge is refused: the answer would be too large (CIP status 0x11)",
        "Vials is refused: the controller starts up, or a program is downloaded",
    ):
        assert any(words in text for text in reading.violations), reading.violations


async def test_neighbouring_elements_are_one_request_and_bools_are_not(make_device: MakeDevice, client: Any) -> None:
    rows = [(f"Samples[{at}]", "REAL") for at in range(20)]
    plc = plant()
    async with omron_server(plc) as server:
        one = client(make_device(rows, port=server.port, family="omron"))
        (reading,) = await one.read()

    assert one.values(reading) == [at / 4 for at in range(20)]
    assert plc.services[Service.READ_TAG, None] == 1


async def test_an_array_of_another_length_is_no_single_element(make_device: MakeDevice, client: Any) -> None:
    """Only for its name may more come than was asked for: for an index it could be another element."""
    plc = plant()

    def lengthen(frame: bytes) -> bytes:
        at = frame.find(b"\xcc\0\0\0\xc3\0")
        if at < 0:
            return frame
        grown = frame + frame[at + 6 :]
        size = len(grown) - 24
        return grown[:2] + size.to_bytes(2, "little") + grown[4:42] + (size - 20).to_bytes(2, "little") + grown[44:]

    plc.distort = lengthen
    async with omron_server(plc) as server:
        one = client(make_device([("Row[2]", "INT"), ("Vials", "DINT")], port=server.port, family="omron"))
        (reading,) = await one.read()

    assert one.values(reading) == [StatusCode.BAD_DECODING_ERROR, 70_000]


async def test_a_logix_that_is_an_omron_is_told(make_device: MakeDevice, client: Any) -> None:
    async with omron_server(plant()) as server:
        with pytest.raises(DeviceRefused, match="it is NJ501-1300, which has no slots: write family: omron"):
            await client(make_device([("Vials", "DINT")], port=server.port)).read()

        async def pause() -> None: ...

        (found,) = await discover("127.0.0.1", pause, port=server.port)

    assert found.device["family"] == "omron"


async def test_a_device_that_does_not_bear_packets_of_several_reads_is_asked_one_by_one(
    make_device: MakeDevice, client: Any
) -> None:
    async with odd_server(logix_plant(), {MULTIPLE: closing}) as (server, router):
        one = client(make_device(logix_tags(), port=server.port))
        readings = await one.read(times=4)
        router.asked.clear()
        readings += await one.read(times=2)

    assert len({tuple(one.values(reading)) for reading in readings}) == 1
    assert StatusCode.BAD_DEVICE_FAILURE not in one.values(readings[0])
    assert not [question for question in router.asked if question.startswith(MULTIPLE)]
