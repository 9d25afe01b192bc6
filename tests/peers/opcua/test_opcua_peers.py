"""Real servers of two implementations on the other side, and a record of every byte in between."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from drivers.opcua import OpcuaKind, address_space
from drivers.opcua.services import CREATE_MONITORED_ITEMS, CREATE_SUBSCRIPTION, TRANSFER_SUBSCRIPTIONS
from edge.clock import SystemClock, read_pair
from edge.errors import DeviceUnreachable
from edge.model import NO_TIME, StatusCode, status_codes
from edge.testing.proxy import RecordingProxy
from tests.peers.opcua.plant import (
    ALL_TAGS,
    BROKEN,
    EXPECTED,
    Server,
    Watched,
    device_at,
    secured,
    services_in,
    soon,
    tag_of,
)

BROWSE_NEXT = 533
PLANT = "/Objects/{urn:tidegate:plant}Plant"
POINTS = [tag_of(f"Point{number}", "float64") for number in range(100)]
ALIVE = {"keep_alive": "200 ms"}


@pytest.mark.requirement("REQ-TYPE-01")
async def test_every_type_of_a_real_server_is_polled(wire: RecordingProxy) -> None:
    device = device_at(wire.port, [*ALL_TAGS, tag_of("Broken", "float64"), tag_of("Nowhere", "float64")])
    driver = OpcuaKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        readings = [await session.read(plan) for _ in range(3)]

    for reading in readings:
        values = [reading.vectors[vector][position] for vector, position in plan.layout.slots]
        assert values[: len(EXPECTED)] == [value for _, value in EXPECTED.values()]
        codes = status_codes(reading.status, len(plan.layout)).tolist()
        assert codes == [0] * len(EXPECTED) + [BROKEN, StatusCode.BAD_ADDRESS]


async def test_every_type_of_a_real_server_is_told(wire: RecordingProxy) -> None:
    tags = [*ALL_TAGS, tag_of("Broken", "float64"), tag_of("Nowhere", "float64")]
    watched = Watched(device_at(wire.port, tags, subscribe=ALIVE))
    heard = watched.heard

    async with watched.session():
        await heard.until(lambda: len(heard.values) == len(tags))

    assert {name: heard.values[name][-1] for name in EXPECTED} == {name: value for name, (_, value) in EXPECTED.items()}
    assert all(heard.codes[name] == [0] for name in EXPECTED)
    assert heard.codes["Broken"] == [BROKEN]
    assert heard.codes["Nowhere"] == [StatusCode.BAD_ADDRESS]
    assert heard.source_times["Nowhere"] == [NO_TIME]
    assert min(heard.source_times[name][0] for name in EXPECTED) > 0


async def test_a_change_is_told_with_times_that_hold_it(server: Server, wire: RecordingProxy) -> None:
    """A value sampled after our request lies between `asked_at_ns` and `answered_at_ns`, by the server's clock too."""
    watched, clock = Watched(device_at(wire.port, [tag_of("Int32", "int32")], subscribe=ALIVE)), SystemClock()
    heard = watched.heard
    _, offset_ns = read_pair(clock)

    async with watched.session():
        for value in range(10):
            await asyncio.to_thread(server.tell, "value Int32", value)
            await heard.until(lambda value=value: heard.values.get("Int32", [])[-1:] == [value])
        await asyncio.to_thread(server.tell, "value Int32", -32)
        await heard.until(lambda: heard.values["Int32"][-1] == -32)

    told = [changes for changes in heard.changes if any(map(len, changes.vectors))][1:]
    assert len(told) >= 10
    for changes in told:
        assert changes.source_times is not None
        for times in changes.source_times:
            # A server may round its times to whole milliseconds.
            assert (times - offset_ns >= changes.asked_at_ns - 2_000_000).all()
            assert (times - offset_ns <= changes.answered_at_ns + 2_000_000).all()


async def test_a_server_says_that_it_lives_and_nothing_else(wire: RecordingProxy) -> None:
    watched = Watched(device_at(wire.port, [tag_of("Float64", "float64")], subscribe=ALIVE))
    heard = watched.heard

    async with watched.session():
        await heard.until(lambda: len(heard.changes) >= 4)

    assert [sum(map(len, changes.vectors)) for changes in heard.changes[:4]] == [1, 0, 0, 0]


async def test_a_deadband_of_the_server_holds_back_what_moved_less(server: Server, wire: RecordingProxy) -> None:
    tags = [tag_of("Point7", "float64", deadband=10, scale=2), tag_of("Point8", "float64"), tag_of("Text", "text")]
    watched = Watched(device_at(wire.port, tags, subscribe={**ALIVE, "deadband": "server"}))
    heard = watched.heard

    async with watched.session():
        await heard.until(lambda: len(heard.values) == 3)
        start = heard.values["Point7"][-1]
        for value in (start + 4, start + 20):
            await asyncio.to_thread(server.tell, "value Point7", value)
            await asyncio.to_thread(server.tell, "value Point8", value)
            await heard.until(lambda value=value: heard.values["Point8"][-1] == value)
        await heard.until(lambda: heard.values["Point7"][-1] == start + 20)

    assert heard.values["Point7"] == [start, start + 20]


async def test_items_are_made_in_chunks_of_what_the_server_took(wire: RecordingProxy) -> None:
    watched = Watched(device_at(wire.port, POINTS, subscribe=ALIVE))
    watched.driver._chunk.halve(60)

    async with watched.session():
        await watched.heard.until(lambda: len(watched.heard.values) == len(POINTS))

    assert services_in(bytes(wire.recordings[0].sent)).count(CREATE_MONITORED_ITEMS) == 4


async def test_too_many_values_at_once_lose_the_oldest_and_say_so(node_opcua: Server) -> None:
    """Which only one of the two servers does."""
    tags, subscribe = [tag_of("Point1", "float64")], {**ALIVE, "sampling": "50 ms", "queue": 3}
    watched = Watched(device_at(node_opcua.port, tags, every="500 ms", subscribe=subscribe))
    heard = watched.heard

    async with watched.session():
        await heard.until(lambda: heard.values)
        await asyncio.to_thread(node_opcua.tell, "ramp Point1 20 60")
        await heard.until(lambda: heard.values["Point1"][-1] == 20)

    overflows = [changes for changes in heard.changes if changes.overflowed]
    assert overflows
    assert all(changes.overflowed == (0,) and len(changes.vectors[0]) == 3 for changes in overflows)


async def test_two_groups_share_a_session_with_a_polled_one(wire: RecordingProxy) -> None:
    device = device_at(wire.port, POINTS[:10], subscribe=ALIVE)
    watched = Watched(device)
    other = Watched(device_at(wire.port, POINTS[5:20], subscribe=ALIVE))
    polled = watched.driver.plan(device.scan_groups[0].tags)

    async with watched.driver.connect() as session, asyncio.timeout(20):
        tasks = [asyncio.create_task(session.receive_notifications(each.plan, each.heard)) for each in (watched, other)]
        readings = [await session.read(polled) for _ in range(20)]
        await watched.heard.until(lambda: len(watched.heard.values) == 10)
        await other.heard.until(lambda: len(other.heard.values) == 15)
        tasks[0].cancel()
        before = len(other.heard.changes)
        await other.heard.until(lambda: len(other.heard.changes) > before + 2)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert len(wire.recordings) == 1
    assert all(reading.status == () for reading in readings)


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_changes_cross_a_secured_session(server: Server, wire: RecordingProxy, tmp_path: Path, mode: str) -> None:
    """Signed requests can be read on the wire, and are reading ones; encrypted ones cannot."""
    (tmp_path / "password").write_text("a secret")
    user = {"name": "reader", "password": f"file:{tmp_path / 'password'}"}
    keys = await secured(wire.port, tmp_path, mode)
    watched = Watched(device_at(wire.port, POINTS[:10], **keys, user=user, subscribe=ALIVE))

    async with watched.session():
        await watched.heard.until(lambda: len(watched.heard.values) == 10)

    if mode == "SignAndEncrypt":
        wire.recordings = wire.recordings[:1]  # What is encrypted proves nothing.


# What is lost and what is not.


async def test_a_restarted_server_is_watched_again_whatever_its_namespaces_order(
    own_server: Server, own_wire: RecordingProxy
) -> None:
    watched = Watched(device_at(own_wire.port, POINTS[:20], subscribe=ALIVE))
    heard = watched.heard
    async with watched.session() as listening:
        await heard.until(lambda: len(heard.values) == 20)
        own_server.end()
        with pytest.raises(DeviceUnreachable):
            await soon(listening)
    heard.values.clear()
    last_ns = heard.changes[-1].answered_at_ns
    await asyncio.to_thread(own_server.start, *(["--other-order"] if own_server.kind == "asyncua" else []))

    async with watched.session():
        await heard.until(lambda: len(heard.values) == 20)

    assert [heard.values[f"Point{number}"] for number in range(20)] == [[number] for number in range(20)]
    assert [changes.lost_since_ns for changes in heard.changes if changes.lost_since_ns] == [last_ns]
    services = services_in(bytes(own_wire.recordings[-1].sent))
    assert TRANSFER_SUBSCRIPTIONS not in services
    assert CREATE_SUBSCRIPTION in services


async def test_a_server_that_stands_still_is_lost(server: Server, wire: RecordingProxy) -> None:
    """Its connection stays open: only the silence shows it."""
    keys = {"subscribe": ALIVE, "limits": {"timeout": "500 ms"}}
    watched = Watched(device_at(wire.port, POINTS[:5], **keys))
    heard = watched.heard

    async with watched.session() as listening:
        await heard.until(lambda: len(heard.values) == 5)
        server.send(signal.SIGSTOP)
        with pytest.raises(DeviceUnreachable, match="that it lives"):
            await soon(listening)
    server.send(signal.SIGCONT)
    heard.values.clear()

    async with watched.session():
        await heard.until(lambda: heard.changes[-1].is_continued or len(heard.values) == 5)


async def test_a_folder_is_browsed_in_parts(
    server: Server, wire: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut response is continued by BrowseNext (OPC 10000-4, 5.9.3)."""
    driver = OpcuaKind().driver(device_at(wire.port, POINTS), SystemClock())
    async with driver.connect() as session:
        whole = await session.browse(PLANT)
        monkeypatch.setattr(address_space, "_REFERENCES_AT_ONCE", 30)

        in_parts = await session.browse(PLANT)

    assert len(in_parts) > 100
    assert [(entry.name, entry.value) for entry in in_parts] == [(entry.name, entry.value) for entry in whole]
    asked_on = BROWSE_NEXT in services_in(bytes(wire.recordings[0].sent))
    assert asked_on or server.kind == "asyncua"  # Which sends all that it has, whatever it is asked for.
