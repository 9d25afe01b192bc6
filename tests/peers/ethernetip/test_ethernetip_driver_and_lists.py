"""What a device lists of itself: the objects of one without tags, and the tags that answer for a wrong address."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.ethernetip import EtherNetIpKind
from drivers.ethernetip.browse import discover
from drivers.ethernetip.session import EtherNetIpSession
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import (
    BOOL,
    DINT,
    REAL,
    SHORT_STRING,
    STRING,
    Controller,
    Identity,
    LogixServer,
    micro800,
    objects,
)
from drivers.ethernetip.simulator.tags import Entry
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.errors import ProtocolViolation
from tests.support.field.ethernetip_addresses import INPUTS, remote_io


@asynccontextmanager
async def opened(
    plc: Controller, *tags: dict[str, Any], **more: Any
) -> AsyncIterator[tuple[EtherNetIpSession, EtherNetIpDevice]]:
    rows = [{"name": f"t{number}", **tag} for number, tag in enumerate(tags)]
    async with LogixServer(plc) as server:
        device = settings_from(EtherNetIpDevice,
            {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", "port": server.port, **more,
             "scan_groups": [{"every": "1 s", "tags": rows}]}
        )  # fmt: skip
        async with EtherNetIpKind().driver(device, SystemClock()).connect() as session:
            yield session, device
    assert plc.writes_asked == 0


def bottling() -> Controller:
    plc = Controller("Bottling")
    motor = plc.structure("Motor", {"Running": BOOL, "Speed": REAL})
    plc.tag("Motors", motor[4])
    plc.tag("Temperature", REAL, 37.0)
    plc.tag("Operator", plc.string("STRING20", 20), "Anna")
    plc.tag("Step", DINT, 1, program=plc.program("Filler"))
    plc.tag("Step", DINT, 2, program=plc.program("Capper"))
    plc.tag("Torque", motor, program="Capper")
    return plc


@pytest.mark.parametrize(
    ("address", "kind", "sentence"),
    [
        ("Step", "DINT", "Step exists as Program:Filler.Step and as Program:Capper.Step"),
        ("Program:Filler.Torque.Speed", "REAL", "Program:Filler.Torque.Speed exists as Program:Capper.Torque.Speed"),
        ("Program:Main.temperature", "REAL", "Program:Main.temperature exists as temperature"),
        ("Temprature", "REAL", "there is no Temprature; did you mean Temperature?"),
        ("Zzz", "REAL", "there is no Zzz in the controller"),
        ("Operator", "STRING", "Operator is a text of up to 20 characters; write length: 20"),
        ("Motors[1].Spd", "REAL", "'Motors[1].Spd': there is no 'Spd' in it; there are Running, Speed"),
        ("Motors[7].Speed", "REAL", "'Motors[7].Speed': there is no element [7] in Motors, which has [4] elements"),
        ("Temperature[3]", "REAL", "'Temperature[3]': there is no element [3] in Temperature, which is no array"),
        ("Motors[0]", "REAL", "Motors[0] is a structure, Motor: write one of its members"),
    ],
)
async def test_the_list_of_tags_says_what_is_meant(address: str, kind: str, sentence: str) -> None:
    """ "There is no such tag" leaves an engineer with the question where it is: mostly in a program."""
    async with opened(bottling(), {"address": address, "type": kind}) as (session, device):
        assert await session.explain(device.scan_groups[0].tags) == [sentence]


async def test_many_wrong_tags_take_one_look_at_the_list() -> None:
    plc = bottling()
    tags = [{"address": f"Missing{number}", "type": "REAL"} for number in range(50)]
    async with opened(plc, *tags, {"address": "cip 1/1/99", "type": "INT"}) as (session, device):
        said = await session.explain(device.scan_groups[0].tags)

    assert len(said) == 50
    assert plc.services[0x55, 0x6B] == 3


async def test_a_controller_without_a_list_says_so_once() -> None:
    plc = bottling()
    plc.distort = refused_lists
    async with opened(plc, {"address": "A", "type": "REAL"}, {"address": "B", "type": "REAL"}) as (session, device):
        assert await session.explain(device.scan_groups[0].tags) == [
            "its tags are not listed: service not supported (CIP status 0x08)"
        ]


def refused_lists(frame: bytes) -> bytes:
    """The answer on a connection, with a refusal of the list of tags."""
    if frame[46:47] != b"\xd5":
        return frame
    return frame[:2] + struct.pack("<H", 26) + frame[4:42] + struct.pack("<H", 6) + frame[44:46] + b"\xd5\0\x08\0"


async def test_a_device_without_tags_lists_its_identity_classes_and_assemblies() -> None:
    async with opened(remote_io(), {"address": "cip 1/1/6", "type": "UDINT"}, family="generic") as (session, _):
        entries = {entry.name: entry for entry in await session.browse("")}
        with pytest.raises(LookupError, match="has one level only"):
            await session.browse("cip 4")

    assert {name: entry.value for name, entry in entries.items() if entry.tag} == {
        "vendor": "1", "device type": "7", "product code": "7", "revision": "2", "minor revision": "4", "status": "0",
        "serial number": str(0x00C0FFEE), "product": "Remote I/O",
    }  # fmt: skip
    assert entries["minor revision"].tag == {"address": "cip 1/1/4 +1", "type": "USINT"}
    assert [(entry.name, entry.type) for entry in entries.values() if not entry.tag] == [
        ("class 0x01", "Identity"), ("class 0x02", "Message Router"), ("class 0x04", "Assembly"), ("class 0x93", ""),
        ("cip 4/100/3", f"assembly, {len(INPUTS)} bytes"), ("cip 4/101/3", "assembly, 4 bytes"),
    ]  # fmt: skip
    assert entries["cip 4/101/3"].value == "00 00 00 00"
    assert entries["cip 4/100/3"].value == INPUTS[:16].hex(" ") + " ..."


async def test_a_device_that_lists_no_classes_is_asked_for_those_of_the_standard() -> None:
    device = remote_io()
    device.attribute(2, 1, 9, b"")  # Its message router has no list (attribute 1).
    device.attribute(4, 0, 1, b"\x02\0")  # And its assemblies no count.
    async with opened(device, {"address": "cip 1/1/6", "type": "UDINT"}, family="generic") as (session, _):
        names = [entry.name for entry in await session.browse("") if not entry.tag]

    assert names == ["class 0x01", "class 0x02", "class 0x04", "class 0x06", "cip 4/100/3", "cip 4/101/3"]


async def test_an_older_controller_is_found_and_called_that() -> None:
    async def pause() -> None: ...

    async with LogixServer(Controller("Micro", identity=Identity(product="1763-L16BWA B/12.00"))) as server:
        (found,) = await discover("127.0.0.1", pause, server.port)

    assert found.what.endswith("an SLC, MicroLogix or PLC-5, which Tidegate does not speak")


@pytest.mark.parametrize(
    ("keeps", "words"),
    [
        ((1, 2), "expected name, type and dimensions, got name and type only"),
        ((1,), "expected name, type and dimensions, got name only"),
    ],
)
async def test_a_list_with_fewer_attributes_than_asked_for_says_which(
    monkeypatch: pytest.MonkeyPatch, keeps: tuple[int, ...], words: str
) -> None:
    """Older firmware and gateways give what they have, without a refusal."""
    monkeypatch.setattr("drivers.ethernetip.simulator.objects._attribute_numbers", lambda _: keeps)
    async with opened(bottling(), {"address": "Step", "type": "DINT"}) as (session, _):
        with pytest.raises(ProtocolViolation, match=words):
            await session.browse("")


async def test_a_list_that_is_refused_for_an_attribute_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = objects._entry

    def without_dimensions(entry: Entry) -> Mapping[int, bytes]:
        return {number: value for number, value in everything(entry).items() if number != 8}

    monkeypatch.setattr(objects, "_entry", without_dimensions)
    async with opened(bottling(), {"address": "Step", "type": "DINT"}) as (session, _):
        with pytest.raises(LookupError, match=r"not listed, they have no dimensions \(attribute 8\): attribute list"):
            await session.browse("")


async def test_a_string_type_as_long_as_the_standard_one_is_offered_with_its_length() -> None:
    plc = Controller("Line")
    plc.tag("Recipe", plc.string("RECIPE_NAME", 82), "R-17")
    plc.tag("Lot", STRING, "L-3")
    async with opened(plc, {"address": "Recipe", "type": "STRING"}) as (session, _):
        entries = {entry.name: entry for entry in await session.browse("")}

    assert (entries["Recipe"].value, entries["Recipe"].tag["length"]) == ("R-17", 82)
    assert (entries["Lot"].value, entries["Lot"].tag) == ("L-3", {"address": "Lot", "type": "STRING"})


async def test_a_text_of_a_micro800_is_ready_for_the_configuration() -> None:
    plc = micro800()
    plc.tag("Recipe", SHORT_STRING, "R-17")
    async with opened(plc, {"address": "Recipe", "type": "STRING"}, family="micro800") as (session, _):
        (entry,) = await session.browse("")

    assert (entry.value, entry.tag) == ("R-17", {"address": "Recipe", "type": "STRING"})
