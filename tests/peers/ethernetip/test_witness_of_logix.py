"""The witness on pycomm3 beside our driver: at the simulated controller, and at attributes of a server by cpppo."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import LogixServer
from edge.config.validate import settings_from
from edge.errors import ConfigError
from hil.witness import BAD, BAD_NO_COMMUNICATION, GOOD, Seen, reader_of

TAGS = {
    "Running": ("BOOL", "bool", True), "Small": ("SINT", "int8", -5), "Count": ("INT", "int16", -1234),
    "Vials": ("DINT", "int32", 70_000), "Vials.4": ("BOOL", "bool", True), "Total": ("LINT", "int64", 1 << 40),
    "Volume": ("LREAL", "float64", 1.5), "Mask": ("UDINT", "uint32", 0x80000001),
    "Samples[99]": ("REAL", "float32", 24.75), "Grid[1,2,3]": ("INT", "int16", 23), "Alarms[3]": ("BOOL", "bool", True),
    "Recipe": ("STRING", "text", "LOT-2041-A"), "Line1.Drives[2].Speed": ("REAL", "float32", 21.0),
    "Line1.Lot": ("STRING", "text", "A-7"), "Program:MainProgram.Step": ("DINT", "int32", 12),
}  # fmt: skip


def device_at(port: int, tags: list[tuple[str, str]], **more: Any) -> EtherNetIpDevice:
    rows = [{"name": address.replace("+", "at"), "address": address, "type": kind} for address, kind in tags]
    return settings_from(
        EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "127.0.0.1", "port": port,
         "scan_groups": [{"every": "1 s", "tags": rows}], **more},
    )  # fmt: skip


async def seen_at(device: EtherNetIpDevice) -> dict[str, Seen]:
    async with reader_of(device) as reader:
        return {seen.tag: seen for seen in await reader.read()}


async def test_every_kind_of_tag_is_read(logix: LogixServer) -> None:
    device = device_at(logix.port, [*((address, kind) for address, (kind, _, _) in TAGS.items()), ("Nowhere", "DINT")])

    found = await seen_at(device)

    gone = found.pop("Nowhere")
    assert (gone.value, gone.status) == (None, BAD)
    assert {tag: (seen.type, seen.value) for tag, seen in found.items()} == {
        address: (recorded_as, value) for address, (_, recorded_as, value) in TAGS.items()
    }
    assert {seen.status for seen in found.values()} == {GOOD}


async def test_the_type_is_the_controllers(logix: LogixServer) -> None:
    """Not the one that the configuration claims: otherwise a wrong one would agree with itself."""
    [seen] = (await seen_at(device_at(logix.port, [("Count", "REAL")]))).values()

    assert (seen.type, seen.value) == ("int16", -1234)


async def test_attributes_are_read(cpppo_port: int) -> None:
    device = device_at(cpppo_port, [("cip 4/100/3 +2", "INT"), ("cip 4/100/3 +0[2]", "INT")], family="generic")

    assert [seen.value for seen in (await seen_at(device)).values()] == [515, 4]


async def test_a_controller_that_is_gone_is_bad(logix: LogixServer) -> None:
    device = device_at(logix.port, [("Vials", "DINT")])
    async with reader_of(device) as reader:
        before = await reader.read()
        logix.cut()
        during, after = await reader.read(), await reader.read()

    assert [rows[0].status for rows in (before, during, after)][::2] == [GOOD, GOOD]
    assert during[0].status in (GOOD, BAD_NO_COMMUNICATION)


async def test_what_it_cannot_read_is_said() -> None:
    with pytest.raises(ConfigError, match=r"plc: the witness cannot read dates.*\(Made\)"):
        reader_of(device_at(1, [("Made", "LDT")]))
