"""Servers that are strict, or half-standard, in what they say of their data: read, told, and browsed."""

from __future__ import annotations

import asyncio
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
from tests.support.field.opcua_data import CASES, build_setpoint, build_without_encodings, serving, tag

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
