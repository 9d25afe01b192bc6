"""Servers that are strict, or half-standard, in what they say of their data: read, told, and browsed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from drivers.opcua import OpcuaKind
from drivers.opcua.settings import OpcuaDevice
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import StatusCode, status_codes
from tests.peers.opcua.plant import DEADLINE_S, Watched
from tests.support.field.case import FieldCase
from tests.support.field.opcua_data import (
    CASES,
    GUID,
    URI,
    build_arrays,
    build_setpoint,
    build_what_is_no_tag,
    build_without_encodings,
    serving,
    tag,
)
from tests.support.ports import free_port

FOLDER = f"nsu={URI};s=Plant"
WITH_VALUES = [case for case in CASES if case.values]


def settings(device: Mapping[str, Any], **more: Any) -> OpcuaDevice:
    made: OpcuaDevice = settings_from(OpcuaDevice, {"name": "odd", **device, **more})
    return made


async def read(device: OpcuaDevice) -> dict[str, Any]:
    """The value of each tag, or its status code where that is not good."""
    driver = OpcuaKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)
    async with asyncio.timeout(DEADLINE_S), driver.connect() as session:
        reading = await session.read(plan)
    codes = status_codes(reading.status, len(plan.layout)).tolist()
    values = [reading.vectors[vector][position] for vector, position in plan.layout.slots]
    names = [tag.name for tag in plan.tags]
    return {name: code or value for name, code, value in zip(names, codes, values, strict=True)}


@pytest.mark.parametrize("case", WITH_VALUES, ids=lambda case: case.id)
async def test_what_an_odd_server_gives_is_read_at_the_first_scan(case: FieldCase, tmp_path: Path) -> None:
    async with case.start(tmp_path) as device:
        found = await read(settings(device))

    assert found == {**case.values, **case.refused}


@pytest.mark.parametrize("case", WITH_VALUES, ids=lambda case: case.id)
async def test_what_an_odd_server_gives_is_told(case: FieldCase, tmp_path: Path) -> None:
    """Subscribed values go through other code than polled ones."""
    async with case.start(tmp_path) as device:
        groups = [{**group, "subscribe": {"keep_alive": "200 ms"}} for group in device["scan_groups"]]
        watched = Watched(settings({**device, "scan_groups": groups}))
        async with watched.session():
            await watched.heard.until(lambda: len(watched.heard.values) == len(case.values))

    assert {name: values[-1] for name, values in watched.heard.values.items()} == case.values
    assert all(codes == [0] for codes in watched.heard.codes.values())


async def test_a_structure_that_is_not_what_the_variable_says_is_bad() -> None:
    """The DataType of a variable may be a supertype: bytes that are left over say so, and nothing is guessed."""
    tags = [tag("longer", "Longer", "uint16", field="A"), tag("pair", "Pair", "uint16", field="A")]
    async with serving(build_without_encodings, tags) as device:
        assert await read(settings(device)) == {"longer": StatusCode.BAD_DECODING_ERROR, "pair": 3}


async def tidegate(*arguments: str) -> tuple[int, str, str]:
    """What the command answers: exit code, output, and what it says beside it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", *arguments, stdout=pipe, stderr=pipe
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


def site(folder: Path, device: Mapping[str, Any], groups: str = "") -> str:
    """A configuration with this server, for a command."""
    path = folder / "site.yaml"
    path.write_text(
        "gateway: {name: line-4, path: acme/basel, state: state}\nclock: {require: any, chrony: off}\ndevices:\n"
        f"  - name: odd\n    driver: opcua\n    url: {device['url']}\n    security: none\n{groups}"
    )
    return str(path)


@pytest.mark.parametrize("form", ["--yaml", "--csv"])
async def test_what_is_browsed_as_tags_is_read_whole(tmp_path: Path, form: str) -> None:
    """Arrays and odd types come as one line each, and every value of them is good."""
    async with serving(build_arrays, ()) as device:
        code, made, said = await tidegate("browse", site(tmp_path, device), "odd", FOLDER, "--depth", "0", form)
        assert (code, said, made.count("Profile")) == (0, "", 2)  # Name and address.
        (tmp_path / "tags.csv").write_text(made)
        groups = made if form == "--yaml" else "    scan_groups: [{every: 1 s, tags_from: tags.csv}]\n"
        code, read_, said = await tidegate("read", site(tmp_path, device, groups), "odd", "--json")

    assert code == 0, said
    tags = json.loads(read_)["values"]
    assert {tag["status"] for tag in tags} == {0}
    found = {tag["tag"]: tag["value"] for tag in tags}
    assert len(found) == 3 + 2 + 6 + 7 + 2
    assert (found["Profile[2]"], found["Matrix[1,2]"], found["Recipe[1]"]) == (3.5, 6, "boil")
    assert (found["Guid"], found["Blob"], found["Health"]) == (str(GUID), "00ff", 0x80340000)
    # As text, or a reader of JSON would round the first and not know what the second is.
    assert (found["Total"], found["Started"]) == ("9007199254740993", "2026-01-02T03:04:05.678Z")


async def test_a_browse_shows_what_arrays_and_odd_types_are(tmp_path: Path) -> None:
    async with serving(build_arrays, ()) as device:
        _, shown, _ = await tidegate("browse", site(tmp_path, device), "odd", FOLDER)
        _, elements, _ = await tidegate("browse", site(tmp_path, device), "odd", f"nsu={URI};s=Matrix", "--csv")

    lines = [re.split(r"  +", line.strip())[:3] for line in shown.splitlines()]
    assert lines == [
        ["Profile", "float32[3]", "[1.5, 2.5, 3.5]"],
        ["Recipe", "text[2]", "[mash, boil]"],
        ["Matrix", "int32[2x3]", "[[1, 2, 3], [4, 5, 6]]"],
        ["Guid", "Guid", str(GUID)],
        ["Blob", "ByteString", "00ff"],
        ["Reference", "NodeId", f"nsu={URI};s=Line;1"],
        ["Name", "QualifiedName", "Step"],
        ["Health", "StatusCode", "0x80340000 (BadNodeIdUnknown)"],
        ["Total", "uint64", "9007199254740993"],
        ["Started", "datetime", "2026-01-02T03:04:05.678000+00:00"],
        ["Healths", "StatusCode[2]", "[0x00000000 (Good), 0x80340000 (BadNodeIdUnknown)]"],
    ]
    assert elements.splitlines()[-1] == f'"[1,2]",nsu={URI};s=Matrix,int32,1; 2'


async def test_what_cannot_be_a_tag_is_named_with_its_reason(tmp_path: Path) -> None:
    async with serving(build_what_is_no_tag, ()) as device:
        code, made, said = await tidegate("browse", site(tmp_path, device), "odd", FOLDER, "--yaml")

    assert code == 0
    assert said.splitlines() == [
        "left out Setpoint: it is a structure; make a tag of each member that you need, with `field`",
        "left out Empty: it is an array without elements now",
        "left out Unfilled: it is an array without elements now",
        "left out Picture: its text is 6,000 bytes long, and a tag holds up to 4,000",
        "left out Huge: it takes 80,000 bytes, and a record holds a scan of 60,000; write the part that you need",
    ]
    assert [line.strip() for line in made.splitlines()] == [
        "scan_groups:",
        "- every: 1 s",
        "tags:",
        f'- {{name: Long, address: "nsu={URI};s=Long", type: text, length: 4000}}',
    ]


@pytest.mark.parametrize("form", ["--yaml", "--csv"])
async def test_tags_of_a_server_that_is_not_there_are_its_reason_alone(tmp_path: Path, form: str) -> None:
    """What a file would be made of is empty."""
    device = {"url": f"opc.tcp://127.0.0.1:{free_port()}"}
    code, made, said = await tidegate("browse", site(tmp_path, device), "odd", form)

    assert (code, made) == (1, "")
    refused, more = said.splitlines()
    assert "refused" in refused
    assert more == "more: tidegate explain TG-D01"


async def test_a_range_beyond_an_array_is_one_sentence() -> None:
    """However many elements of it are not there; those that are stay good."""
    tags = [tag("profile", "Profile", "float32", index="1..9"), tag("scalar", "Guid", "text", index="0..9")]
    async with serving(build_arrays, tags) as device:
        made = settings(device)
        driver = OpcuaKind().driver(made, SystemClock())
        plan = driver.plan(made.scan_groups[0].tags)
        async with driver.connect() as session:
            reading = await session.read(plan)

    assert [(first, count) for first, count, _ in reading.status] == [(2, 7), (9, 10)]
    assert reading.violations == (
        "profile[3] and 6 more: the server's array has [3] elements",
        "scalar[0] and 9 more: the server has a Guid (type: text) and no array, but the settings name an element",
    )


async def test_two_readers_at_once_learn_a_structure_once() -> None:
    """A definition that one was still waiting for was missing for the other, which then stayed BAD."""
    tags = [tag(f"t{number}", "Setpoint", "uint16", field="Ramp") for number in range(4)]
    async with serving(build_setpoint, tags) as device:
        made = settings(device)
        driver = OpcuaKind().driver(made, SystemClock())
        plans = [driver.plan([each]) for each in made.scan_groups[0].tags]
        async with driver.connect() as session:
            readings = await asyncio.gather(*(session.read(plan) for plan in plans))

    assert [(reading.status, reading.vectors[0].tolist()) for reading in readings] == [((), [7])] * 4
