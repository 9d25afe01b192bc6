"""Values in attributes that hold many of them: one read, and each value from its own byte."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.ethernetip import EtherNetIpKind
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import Controller, LogixServer
from drivers.ethernetip.simulator.codes import Service
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import StatusCode, status_codes
from tests.support.field.ethernetip_addresses import CASES, INPUTS, VALUES, remote_io

Change = Callable[[], None]


async def read(keys: Any, *changes: Change) -> list[tuple[dict[str, Any], tuple[str, ...]]]:
    """Values by name, or the status, and the violations: of one scan, and one more after each change."""
    device = settings_from(EtherNetIpDevice, {"name": "device", **keys})
    driver, tags = EtherNetIpKind().driver(device, SystemClock()), device.scan_groups[0].tags
    plan, found = driver.plan(tags), []
    async with driver.connect() as session:
        for change in (lambda: None, *changes):
            change()
            reading = await session.read(plan)
            codes = status_codes(reading.status, len(tags)).tolist()
            values = [StatusCode(code) if code else reading.vectors[vector][at]
                      for (vector, at), code in zip(plan.layout.slots, codes, strict=True)]  # fmt: skip
            found.append((dict(zip([tag.name for tag in tags], values, strict=True)), tuple(reading.violations)))
    return found


def one_tag(server: LogixServer, address: str, kind: str, **more: Any) -> dict[str, Any]:
    tag = {"name": "tag", "address": address, "type": kind, **more}
    return {"driver": "ethernetip", "host": "127.0.0.1", "port": server.port, "family": "generic",
            "scan_groups": [{"every": "1 s", "tags": [tag]}]}  # fmt: skip


async def test_every_value_of_an_assembly_is_read_with_one_request(tmp_path: Path) -> None:
    case = CASES[0]
    async with case.start(tmp_path) as keys:
        [(values, violations)] = await read(keys)

    assert values == {**VALUES, "beyond": StatusCode.BAD_ADDRESS}
    (why,) = violations
    assert "cip 4/100/3 has 29 bytes, too few for UINT at byte 28" in why


async def test_an_assembly_is_asked_for_once_a_scan(tmp_path: Path) -> None:
    device = remote_io()
    async with LogixServer(device) as server:
        tags = [{"name": f"b{at}", "address": f"cip 4/100/3 +{at}", "type": "USINT"} for at in range(len(INPUTS))]
        keys = one_tag(server, "cip 4/100/3", "USINT") | {"scan_groups": [{"every": "1 s", "tags": tags}]}
        [*_, (values, _)] = await read(keys, lambda: None, lambda: None)

    assert bytes(values.values()) == INPUTS
    assert device.services[Service.GET_ATTRIBUTE_SINGLE, 4] == 3


async def test_values_move_and_texts_grow(tmp_path: Path) -> None:
    device = remote_io()

    def change() -> None:
        device.attribute(4, 100, 3, INPUTS[:2] + struct.pack("<H", 7) + INPUTS[4:16] + b"\x02\0AB" + bytes(9))

    case = CASES[0]
    async with LogixServer(device) as server, case.start(tmp_path) as keys:
        [_, (values, _)] = await read({**keys, "port": server.port}, change)

    assert (values["speed"], values["temperature"], values["lot"]) == (7, 37.25, "AB")


async def test_a_shorter_assembly_takes_only_what_lay_in_its_end(tmp_path: Path) -> None:
    device = remote_io()
    case = CASES[0]
    async with LogixServer(device) as server, case.start(tmp_path) as keys:
        [_, (values, _), (again, _)] = await read(
            {**keys, "port": server.port},
            lambda: device.attribute(4, 100, 3, INPUTS[:8]),
            lambda: device.attribute(4, 100, 3, INPUTS),
        )

    assert (values["speed"], values["third"], values["lot"]) == (1500, StatusCode.BAD_ADDRESS, StatusCode.BAD_ADDRESS)
    assert again == {**VALUES, "beyond": StatusCode.BAD_ADDRESS}


async def test_a_scalar_where_an_assembly_is_says_how_to_name_the_byte() -> None:
    async with LogixServer(remote_io()) as server:
        [(values, (why,))] = await read(one_tag(server, "cip 4/100/3", "INT"))

    assert values == {"tag": StatusCode.BAD_DECODING_ERROR}
    assert "has 29 bytes of data, not 2" in why
    assert 'say where in it the value begins, as in "cip 4/100/3 +0"' in why


@pytest.mark.parametrize(
    ("data", "kind", "value"),
    [
        (b"\x02\0AB", "STRING", "AB"),
        (b"\x02AB", "STRING", "AB"),
        (b"\x02AB", "SHORT_STRING", "AB"),
        (b"AB \0", "CHARS", "AB"),
        (b"\0", "STRING", ""),
        (b"", "STRING", StatusCode.BAD_DECODING_ERROR),
        (b"\x09AB", "SHORT_STRING", StatusCode.BAD_DECODING_ERROR),
        (b"\xff\xffAB", "STRING", StatusCode.BAD_DECODING_ERROR),
        (b"ABC", "CHARS", StatusCode.BAD_DECODING_ERROR),
    ],
)
async def test_a_text_is_read_as_it_is_written_in_the_manual(data: bytes, kind: str, value: object) -> None:
    device = remote_io()
    device.attribute(0x93, 1, 9, data)
    async with LogixServer(device) as server:
        [(values, _)] = await read(one_tag(server, "cip 0x93/1/9", kind, length=4))

    assert values == {"tag": value}


async def test_an_attribute_longer_than_a_message_is_refused_and_not_a_crash() -> None:
    """Only tags are read in fragments: the device says that the answer is too large."""
    device = remote_io()
    device.attribute(4, 102, 3, bytes(2000))
    async with LogixServer(device) as server:
        [(values, (why,))] = await read(one_tag(server, "cip 4/102/3 +1998", "UINT"))
        [(text, _)] = await read(one_tag(server, "cip 4/102/3", "STRING", length=1999))

    assert values == text == {"tag": StatusCode.BAD_DEVICE_FAILURE}
    assert "the answer would be too large (CIP status 0x11); messaging: connected leaves more room for it" in why


async def test_a_long_attribute_of_a_logix_controller_spoils_no_packet() -> None:
    """How long an attribute is, only its answer says: beside others it could take their room."""
    plc = Controller("Line")
    plc.attribute(4, 100, 3, bytes(3000))
    plc.attribute(4, 101, 3, bytes(3000))
    tags = [{"name": f"a{n}", "address": f"cip 4/{n}/3 +4", "type": "DINT"} for n in (100, 101)]
    async with LogixServer(plc) as server:
        keys = {"driver": "ethernetip", "host": "127.0.0.1", "port": server.port,
                "scan_groups": [{"every": "1 s", "tags": tags}]}  # fmt: skip
        assert await read(keys) == [({"a100": 0, "a101": 0}, ())]


async def test_a_server_by_cpppo_is_read_by_bytes_and_bits(cpppo_port: int) -> None:
    tags = [("cip 4/100/3 +2", "DINT"), ("cip 4/100/3[0]", "INT"), ("cip 4/100/3 +2.1", "BOOL"),
            ("cip 4/100/3.0", "BOOL"), ("cip 4/100/3 +32", "INT")]  # fmt: skip
    rows = [{"name": f"t{at}", "address": address, "type": kind} for at, (address, kind) in enumerate(tags)]
    keys = {"driver": "ethernetip", "host": "127.0.0.1", "port": cpppo_port, "family": "generic",
            "scan_groups": [{"every": "1 s", "tags": rows}]}  # fmt: skip
    async with asyncio.timeout(20):
        [(values, _)] = await read(keys)

    assert list(values.values()) == [0x0004_0203, 0x0101, True, True, StatusCode.BAD_ADDRESS]
