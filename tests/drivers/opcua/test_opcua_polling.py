"""Polling a real server: values, statuses, missing nodes, chunks, restarts and refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.structures104 import new_struct, new_struct_field
from asyncua.common.utils import ServiceError

from drivers.opcua.channel import SecureChannel
from drivers.opcua.plan import OpcuaPlan
from edge.errors import DeviceRefused, DeviceUnreachable
from edge.model import Reading, StatusCode, status_codes
from edge.testing.clock import ManualClock
from tests.drivers.opcua.plant import PLANT, Plant, driver_and_plan

T = ua.VariantType
BAD_NODE_ID_UNKNOWN = 0x80340000
MINUTE_NS = 60 * 10**9


def values(reading: Reading, plan: OpcuaPlan) -> list[Any]:
    return [reading.vectors[vector][position] for vector, position in plan.layout.slots]


def codes(reading: Reading, plan: OpcuaPlan) -> list[int]:
    return [int(code) for code in status_codes(reading.status, len(plan.layout))]


def refuse(code: int, above: int = 0) -> Callable[[int], Awaitable[None]]:
    async def before_read(nodes: int) -> None:
        if nodes > above:
            raise ServiceError(code)

    return before_read


@pytest.fixture(scope="module")
def running_plant() -> Any:
    with Plant() as plant:
        for name, (kind, value) in {
            "Flag": (T.Boolean, True), "Int8": (T.SByte, -8), "UInt8": (T.Byte, 8), "Int16": (T.Int16, -16),
            "UInt16": (T.UInt16, 16), "Int32": (T.Int32, -32), "UInt32": (T.UInt32, 32), "Int64": (T.Int64, -64),
            "UInt64": (T.UInt64, 64), "Float32": (T.Float, 0.1), "Float64": (T.Double, 0.1), "Text": (T.String, "µΩ"),
            "Phrase": (T.LocalizedText, ua.LocalizedText("läuft", "de")),
            "When": (T.DateTime, datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)),
        }.items():  # fmt: skip
            plant.add(name, value, kind)
        plant.add("Floats", [1.5, 2.5, 3.5], T.Float)
        for number in range(10):
            plant.add(f"Point{number}", float(number))
        yield plant


SCALARS = [
    {"address": name, "type": name.lower()}
    for name in ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float32", "Float64", "Text")
] + [
    {"address": "Flag", "type": "bool"},
    {"address": "Phrase", "type": "text"},
    {"address": "When", "type": "datetime"},
    {"address": "Int32", "type": "enumeration"},
    {"address": "Floats", "type": "float32", "index": 2},
]
POINTS = [{"address": f"Point{number}", "type": "float64"} for number in range(10)]


async def test_every_type_is_read_as_the_server_has_it(plant: Plant, clock: ManualClock) -> None:
    """A scan is values, the times at which the server took them, and the server's own time."""
    driver, plan = driver_and_plan(plant, clock, SCALARS)

    async with driver.connect() as session:
        reading = await session.read(plan)

    assert not reading.status
    assert not reading.violations
    assert values(reading, plan) == [
        -8, 8, -16, 16, -32, 32, -64, 64, np.float32(0.1), 0.1, "µΩ", True, "läuft",
        1_767_323_045_678_000_000, -32, 3.5,
    ]  # fmt: skip
    assert reading.source_times is not None
    assert reading.device_time_ns is not None
    for vector, times in zip(reading.vectors, reading.source_times, strict=True):
        assert len(vector) == len(times)
        assert all(times < reading.device_time_ns)
        assert all(times > reading.device_time_ns - MINUTE_NS)
    assert plant.reads == [15]  # One node for two of the tags.


async def test_an_unchanged_scan_hands_out_the_very_same_vectors(plant: Plant, clock: ManualClock) -> None:
    """Report by exception sees by identity that there is nothing to report."""
    driver, plan = driver_and_plan(plant, clock, SCALARS)

    async with driver.connect() as session:
        first, second = await session.read(plan), await session.read(plan)
        plant.put("Float64", 0.25, T.Double)
        third = await session.read(plan)
        plant.put("Text", "longer than before", T.String)
        fourth = await session.read(plan)
        plant.put("Text", "µΩ", T.String)
        plant.put("Float64", 0.1, T.Double)

    assert second.vectors is first.vectors
    assert third.vectors is not second.vectors
    assert (values(third, plan)[9], values(fourth, plan)[10]) == (0.25, "longer than before")
    assert not fourth.status
    with pytest.raises(ValueError, match="read-only"):
        first.vectors[0][0] = False


async def test_a_text_that_gets_longer_is_learned_alone(plant: Plant, clock: ManualClock) -> None:
    """It moves the values behind it: texts are read last, so that numbers stay in place."""
    names = ("Text", "Int32", "Phrase", "Float64")
    driver, plan = driver_and_plan(plant, clock, [tag for tag in SCALARS if tag["address"] in names])
    read: list[list[Any]] = []

    async with driver.connect() as session:
        layouts = []
        for text in ("µΩ", "much longer", ""):
            plant.put("Text", text, T.String)
            read.append(values(await session.read(plan), plan))
            (chunk,) = session._polled[plan].chunks
            layouts.append(tuple(chunk.layouts))
    plant.put("Text", "µΩ", T.String)

    assert read == [[-32, 0.1, text, "läuft", -32] for text in ("µΩ", "much longer", "")]
    assert len({numbers for numbers, _ in layouts}) == 1
    assert len({texts for _, texts in layouts}) == 3
    assert plant.reads == [4, 4, 4]


async def test_what_is_not_there_is_bad_alone_and_asked_for_again_slowly(plant: Plant, clock: ManualClock) -> None:
    """Unknown nodes, namespaces and paths are left out of the scans between retries, and are found again."""
    tags = [
        {"address": "Point0", "type": "float64"},
        {"address": "Late", "type": "float64"},
        {"address": "nsu=urn:nowhere;s=x", "type": "float64"},
        {"address": "/Objects/x:Plant/x:Late", "type": "float64"},
        {"address": "/Objects/x:Plant/x:Point1", "type": "float64"},
    ]
    driver, plan = driver_and_plan(plant, clock, tags)

    async with driver.connect() as session:
        first, second = await session.read(plan), await session.read(plan)
        plant.add("Late", 7.0)
        third = await session.read(plan)
        clock.advance_ns(MINUTE_NS)
        fourth, fifth = await session.read(plan), await session.read(plan)
    plant.remove("Late")

    missing = BAD_NODE_ID_UNKNOWN
    assert [codes(reading, plan) for reading in (first, second, third)] == [[0, missing, missing, missing, 0]] * 3
    assert (values(first, plan)[0], values(third, plan)[4]) == (0, 1)
    assert first.violations == (
        f"nsu=urn:nowhere;s=x: the server has no namespace urn:nowhere; it has urn:freeopcua:python:server, {PLANT}",
        f"/Objects/{{{PLANT}}}Plant/{{{PLANT}}}Late: the server finds nothing there (BadNoMatch)",
    )
    assert not second.violations
    assert codes(fourth, plan) == codes(fifth, plan) == [0, 0, missing, 0, 0]
    assert values(fourth, plan)[3] == values(fifth, plan)[1] == 7
    assert plant.reads == [3, 2, 2, 4, 4]


async def test_a_status_is_kept_as_it_came_and_goes_when_it_goes(plant: Plant, clock: ManualClock) -> None:
    """All 32 bits; an uncertain value is a value, a bad one is none."""
    driver, plan = driver_and_plan(plant, clock, POINTS[:3])

    async with driver.connect() as session:
        good = await session.read(plan)
        plant.put("Point0", 5.0, T.Double, 0x40920480)
        plant.put("Point1", 6.0, T.Double, 0x808C0000)
        other, again = await session.read(plan), await session.read(plan)
        plant.put("Point0", 0.0, T.Double)
        plant.put("Point1", 1.0, T.Double)
        healed = await session.read(plan)

    assert codes(good, plan) == codes(healed, plan) == [0, 0, 0]
    assert codes(other, plan) == codes(again, plan) == [0x40920480, 0x808C0000, 0]
    assert values(other, plan)[0] == 5
    assert again.vectors is other.vectors
    assert values(healed, plan) == [0, 1, 2]


async def test_a_type_that_changed_overnight_makes_its_tag_bad_and_says_so_once(
    plant: Plant, clock: ManualClock
) -> None:
    """The bytes of an int64 would make a fine float64."""
    driver, plan = driver_and_plan(plant, clock, POINTS[:3])

    async with driver.connect() as session:
        await session.read(plan)
        plant.put("Point1", 1, T.Int64)
        changed, still = await session.read(plan), await session.read(plan)
        plant.put("Point1", 1.0, T.Double)
        back = await session.read(plan)

    assert codes(changed, plan) == codes(still, plan) == [0, StatusCode.BAD_DECODING_ERROR, 0]
    assert changed.violations == ("tag-1: the server has an Int64 (type: int64) where the settings say float64",)
    assert not still.violations
    assert (codes(back, plan), values(back, plan)) == ([0, 0, 0], [0, 1, 2])


@pytest.mark.parametrize(("limits", "reads"), [
    ({"nodes_per_read": 4}, [4, 4, 2]), ({"nodes_per_read": 4, "in_flight": 3}, [4, 4, 2]),
    ({"nodes_per_read": 5, "gap": "1 ms"}, [5, 5]), ({}, [10]),
])  # fmt: skip
async def test_a_plan_is_read_in_chunks(
    plant: Plant, clock: ManualClock, limits: dict[str, Any], reads: list[int]
) -> None:
    """As many nodes in a request as the settings say, and every value in its place."""
    driver, plan = driver_and_plan(plant, clock, POINTS, limits=limits)

    async with driver.connect() as session:
        readings = [await session.read(plan) for _ in range(2)]

    assert sorted(plant.reads) == sorted(reads * 2)
    assert [values(reading, plan) for reading in readings] == [list(range(10))] * 2
    assert readings[0].vectors is readings[1].vectors


async def test_a_server_that_finds_a_request_too_large_is_asked_for_less_from_then_on(
    plant: Plant, clock: ManualClock
) -> None:
    """Half as much until it fits, in this session and in the next."""
    driver, plan = driver_and_plan(plant, clock, POINTS)
    plant.before_read = refuse(ua.StatusCodes.BadTooManyOperations, above=3)

    async with driver.connect() as session:
        reading = await session.read(plan)
        first = plant.reads.copy()
        plant.reads.clear()
        await session.read(plan)
    async with driver.connect() as session:
        await session.read(plan)

    assert values(reading, plan) == list(range(10))
    assert first == [10, 5, 2, 2, 2, 2, 2]
    assert plant.reads == [2, 2, 2, 2, 2] * 2


async def test_a_server_that_hangs_up_over_a_large_request_gets_smaller_ones(plant: Plant, clock: ManualClock) -> None:
    """Some servers close the connection over a request that is too large; one that was answered before was not why."""
    driver, plan = driver_and_plan(plant, clock, POINTS)
    taken = 3

    async def hang_up(nodes: int) -> None:
        if nodes > taken:
            plant.end_connections()
            await asyncio.sleep(0)  # Before it answers.

    plant.before_read = hang_up
    sizes: list[int] = []
    for _ in range(4):
        plant.reads.clear()
        async with driver.connect() as session:
            with suppress(DeviceUnreachable):
                reading = await session.read(plan)
            sizes.append(plant.reads[0])
        taken = 0 if len(sizes) == 3 else taken

    assert values(reading, plan) == list(range(10))
    assert sizes == [10, 5, 2, 2]
    plant.before_read = None
    async with driver.connect() as session:
        plant.reads.clear()
        await session.read(plan)
    assert plant.reads == [2] * 5


async def test_no_message_is_longer_than_the_server_takes(
    plant: Plant, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, plan = driver_and_plan(plant, clock, POINTS)
    monkeypatch.setattr(SecureChannel, "sent_bytes_limit", 300)

    async with driver.connect() as session:
        reading = await session.read(plan)

    assert values(reading, plan) == list(range(10))
    assert plant.reads == [5, 5]


async def test_a_server_that_ends_the_session_is_unreachable_and_one_that_refuses_is_refused(
    plant: Plant, clock: ManualClock
) -> None:
    """Time heals the first; the second is for the engineer."""
    driver, plan = driver_and_plan(plant, clock, POINTS)

    async with driver.connect() as session:
        plant.before_read = refuse(ua.StatusCodes.BadUserAccessDenied)
        with pytest.raises(DeviceRefused, match="BadUserAccessDenied"):
            await session.read(plan)
        plant.before_read = refuse(ua.StatusCodes.BadSessionIdInvalid)
        with pytest.raises(DeviceUnreachable, match="BadSessionIdInvalid"):
            await session.read(plan)
        with pytest.raises(DeviceUnreachable):
            await session.read(plan)


async def test_what_changed_in_a_scan_that_failed_is_told_by_the_next(plant: Plant, clock: ManualClock) -> None:
    """The first request was answered, all others refused: the change in the first is not forgotten."""
    driver, plan = driver_and_plan(plant, clock, POINTS, limits={"nodes_per_read": 5})
    requests = count()

    async def answer_the_first(_: int) -> None:
        if next(requests):
            raise ServiceError(ua.StatusCodes.BadUserAccessDenied)

    async with driver.connect() as session:
        await session.read(plan)
        plant.put("Point1", 11.0, T.Double)
        plant.before_read = answer_the_first
        with pytest.raises(DeviceRefused):
            await session.read(plan)
        plant.before_read = None
        reading = await session.read(plan)
    plant.put("Point1", 1.0, T.Double)

    assert values(reading, plan)[1] == 11


async def test_a_late_answer_is_never_taken_for_another(plant: Plant, clock: ManualClock) -> None:
    """It has the number of its own request, which was given up."""
    driver, plan = driver_and_plan(plant, clock, POINTS[:1], limits={"timeout": "300 ms"})
    answer_now = threading.Event()

    async def wait(_: int) -> None:
        plant.before_read = None
        await asyncio.to_thread(answer_now.wait)

    async with driver.connect() as session:
        await session.read(plan)
        plant.before_read = wait
        with pytest.raises(DeviceUnreachable, match="did not answer within"):
            await session.read(plan)
        plant.put("Point0", 99.0, T.Double)
        answer_now.set()
        reading = await session.read(plan)
        plant.put("Point0", 0.0, T.Double)
        last = await session.read(plan)

    assert (values(reading, plan), values(last, plan)) == ([99], [0])


async def test_a_server_that_hangs_up_is_unreachable(plant: Plant, clock: ManualClock) -> None:
    """A pending read fails at once, not with its timeout."""
    driver, plan = driver_and_plan(plant, clock, POINTS, limits={"timeout": "60 s"})

    async def hang_up(_: int) -> None:
        plant.end_connections()
        await asyncio.sleep(60)

    async with driver.connect() as session:
        plant.before_read = hang_up
        with pytest.raises(DeviceUnreachable, match="the connection"):
            await session.read(plan)


async def test_after_a_restart_with_another_order_of_namespaces_the_same_nodes_are_read(clock: ManualClock) -> None:
    """The index of a namespace may change from one session to the next."""
    with Plant(["urn:other", PLANT]) as before:
        before.add("Here", 1.0)
        driver, plan = driver_and_plan(before, clock, [{"address": "Here", "type": "float64"}])
        async with driver.connect() as session:
            first = await session.read(plan)
    with Plant([PLANT, "urn:other"], before.port) as after:
        after.add("Here", 2.0)
        async with driver.connect() as session:
            second = await session.read(plan)

    assert before.index != after.index
    assert (values(first, plan), values(second, plan)) == ([1], [2])


async def test_members_of_structures_are_read_by_their_names(plant: Plant, clock: ManualClock) -> None:
    """Nested, optional and in arrays, by the server's definition."""

    async def build() -> None:
        server, index = plant.server, plant.index
        axis_fields = [new_struct_field("Position", T.Double), new_struct_field("Label", T.String)]
        axis, _ = await new_struct(server, index, "AxisType", axis_fields)
        fields = [
            new_struct_field("Speed", T.UInt16),
            new_struct_field("Note", T.String, optional=True),
            new_struct_field("Axes", axis, array=True),
            new_struct_field("Main", axis),
            new_struct_field("Counts", T.Int32, array=True),
        ]
        await new_struct(server, index, "MachineType", fields)
        await server.load_data_type_definitions()

    plant.do(build())

    def machine(axes: int, note: str | None) -> ua.Variant:
        made = [ua.AxisType(Position=number + 0.5, Label=f"axis {number}") for number in range(axes)]
        return ua.MachineType(
            Speed=1200, Note=note, Axes=made, Main=ua.AxisType(Position=9.5, Label="m"), Counts=[4, 5, 6]
        )

    plant.add("Machine", machine(2, "hello"))
    wanted = {"Speed": "uint16", "Note": "text", "Axes[1].Position": "float64", "Main.Label": "text",
              "Counts[2]": "int32", "Missing": "text", "Axes": "text"}  # fmt: skip
    tags = [{"address": "Machine", "field": field, "type": kind} for field, kind in wanted.items()]
    driver, plan = driver_and_plan(plant, clock, tags)

    async with driver.connect() as session:
        first, second = await session.read(plan), await session.read(plan)
        plant.put("Machine", machine(3, "other"))
        third = await session.read(plan)
        plant.put("Machine", machine(1, None))
        fourth = await session.read(plan)
    plant.remove("Machine")

    wrong = StatusCode.BAD_DECODING_ERROR
    assert codes(first, plan) == [0, 0, 0, 0, 0, wrong, wrong]
    assert values(first, plan)[:5] == [1200, "hello", 1.5, "m", 6]
    assert second.vectors is first.vectors
    assert "has no member Missing; it has Speed, Note, Axes, Main, Counts" in first.violations[0]
    assert values(third, plan)[:5] == [1200, "other", 1.5, "m", 6]
    assert codes(fourth, plan)[:5] == [0, wrong, wrong, 0, 0]
