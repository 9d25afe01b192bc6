"""Every sink keeps the same promises: all that is authentic once, nothing of it lost, whatever ends when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge.relay.sinks import feed as feeding
from edge.relay.sinks.feed import SinkFeed
from edge.relay.sinks.sink import Place, SinkUnreachable
from edge.testing.clock import ManualClock
from tests.support.sinks.kafka import KafkaSubject
from tests.support.sinks.lake import LakeSubject
from tests.support.sinks.memory import MemorySink
from tests.support.sinks.postgres import PostgresSubject
from tests.support.sinks.subject import SinkSubject
from tests.support.sinks.world import SealedPlant, Site


@pytest.fixture(params=["memory", "historian", "lake", "stream"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> SinkSubject:
    if request.param == "memory":
        return MemorySink()
    if request.param == "lake":
        return LakeSubject.create(tmp_path / "lake", request.getfixturevalue("monkeypatch"))
    if request.param == "stream":
        broker = request.getfixturevalue("kafka")
        return KafkaSubject.create(broker, tmp_path, request.getfixturevalue("monkeypatch"))
    server = request.getfixturevalue("postgres")
    return PostgresSubject.create(server)


@pytest.fixture
def plant() -> SealedPlant:
    plant = SealedPlant()
    plant.every_kind()
    return plant


@pytest.fixture
def site(tmp_path: Path, plant: SealedPlant) -> Iterator[Site]:
    site = Site(tmp_path, [plant])
    yield site
    site.store.close()


def compared(content: dict[Place, str], plant: SealedPlant) -> dict[Place, str]:
    """Without catalogues, which a sink stores as it likes."""
    catalogues = {plant.place(record) for record in plant.records if record.type.name == "CATALOG"}
    return {place: verdict for place, verdict in content.items() if place not in catalogues}


def expected(plant: SealedPlant, fallen: dict[Place, str] | None = None) -> dict[Place, str]:
    kept = {plant.place(record): "" for record in plant.records if record.type.name != "CATALOG"}
    return kept | (fallen or {})


async def fed(site: Site, subject: SinkSubject) -> int:
    async with subject.sink().session() as session:
        return await site.feed(session)


@pytest.mark.requirement("REQ-ARCH-04")
async def test_everything_authentic_is_there_once(site: Site, plant: SealedPlant, subject: SinkSubject) -> None:
    await site.receive(plant.records)
    await fed(site, subject)

    assert compared(await subject.content(), plant) == expected(plant)


async def test_a_restart_goes_on_from_the_mark(site: Site, plant: SealedPlant, subject: SinkSubject) -> None:
    await site.receive(plant.records)
    await fed(site, subject)
    plant.data()
    await site.receive(plant.records[-1:])
    async with subject.sink().session() as session:
        (parcel,) = [parcel async for parcel in site.parcels(session.mark)]
        await session.write(parcel)

    assert [record.place for record in parcel.records] == [plant.place(plant.records[-1])]
    assert compared(await subject.content(), plant) == expected(plant)


async def test_what_comes_again_is_there_once(site: Site, plant: SealedPlant, subject: SinkSubject) -> None:
    await site.receive(plant.records)
    async with subject.sink().session() as session:
        for _ in range(2):
            async for parcel in site.parcels(""):
                await session.write(parcel)

    assert compared(await subject.content(), plant) == expected(plant)


class Killed(Exception):
    """The process ended here."""


class _Until:
    """A coroutine that is ended at its n-th await."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaits: int, kill: Callable[[], None]) -> None:
        self._coroutine, self._awaits, self._kill = coroutine, awaits, kill

    def __await__(self) -> Generator[Any, Any, Any]:
        inner, sent = self._coroutine.__await__(), None
        for _ in range(self._awaits):
            try:
                waited_for = inner.send(sent) if sent is not None else next(inner)
            except StopIteration as end:
                return end.value
            sent = yield waited_for
        self._kill()
        with suppress(BaseException):  # Whatever it does then, nobody is there to see it.
            inner.throw(Killed())
        raise Killed


@pytest.mark.requirement("REQ-ARCH-04")
async def test_a_kill_at_every_await_loses_nothing_and_doubles_nothing(
    site: Site, plant: SealedPlant, subject: SinkSubject
) -> None:
    await site.receive(plant.records)
    for awaits in range(1, 500):
        plant.data()
        await site.receive(plant.records[-1:])
        try:
            async with subject.sink().session() as session:
                async for parcel in site.parcels(session.mark):
                    await _Until(session.write(parcel), awaits, lambda held=session: subject.kill(held))
        except (Killed, SinkUnreachable):
            continue
        break
    else:
        pytest.fail("it never ended")

    assert awaits > 2
    assert compared(await subject.content(), plant) == expected(plant)


async def test_what_a_late_key_proves_comes_then(site: Site, plant: SealedPlant, subject: SinkSubject) -> None:
    """A checkpoint after them links the records, so that they are archived before their key is known."""
    key = plant.roll()
    late = [plant.data(), plant.data()]
    plant.checkpoint()
    await site.receive(record for record in plant.records if record is not key)
    async with subject.sink().session() as session:
        await site.feed(session)
        before = await subject.content()
        await site.receive([key])
        await site.feed(session)

    assert {plant.place(record) for record in late} & set(before) == set()
    assert compared(await subject.content(), plant) == expected(plant)


async def test_what_falls_is_marked(site: Site, plant: SealedPlant, subject: SinkSubject) -> None:
    """A stolen session key seals on; the KEY that ended it arrives late, and so does what the gateway sealed."""
    thief = plant.thief()
    await site.receive(plant.records)
    stolen = [plant.data(chain=thief), plant.data(chain=thief)]
    await site.receive(stolen)
    async with subject.sink().session() as session:
        await site.feed(session)
        before = await subject.content()
        plant.roll()
        await site.receive(plant.records[-1:])
        await site.restart(is_crash=True)
        await site.feed(session)
    content = await subject.content()

    assert [before[plant.place(record)] for record in stolen] == ["", ""]
    assert [content[plant.place(record)] for record in stolen] == ["FORK", "UNTRUSTED"]


async def test_a_sink_that_is_new_after_a_fall_gets_what_stands(
    site: Site, plant: SealedPlant, subject: SinkSubject
) -> None:
    thief = plant.thief()
    await site.receive(plant.records)
    await site.receive([plant.data(chain=thief), fell := plant.data(chain=thief)])
    plant.roll()
    real = plant.data()
    await site.receive([plant.records[-2], real])
    await fed(site, subject)

    assert fell.seq == real.seq
    assert compared(await subject.content(), plant)[plant.place(real)] == ""


async def test_one_record_that_is_refused_costs_no_other(site: Site, plant: SealedPlant, subject: SinkSubject) -> None:
    bad = plant.data()
    plant.data()
    await site.receive(plant.records)
    subject.refuse(plant.place(bad))
    refused = await fed(site, subject)
    plant.data()
    await site.receive(plant.records[-1:])
    refused += await fed(site, subject)

    assert refused == 1
    wanted = expected(plant)
    del wanted[plant.place(bad)]
    assert compared(await subject.content(), plant) == wanted


async def test_a_sink_that_is_full_takes_everything_once_there_is_room(
    site: Site, plant: SealedPlant, subject: SinkSubject
) -> None:
    await site.receive(plant.records)
    subject.fill()
    with pytest.raises(SinkUnreachable, match="full"):
        await fed(site, subject)
    before = await subject.content()
    subject.make_room()
    await fed(site, subject)

    assert before == {}
    assert compared(await subject.content(), plant) == expected(plant)


@pytest.mark.requirement("REQ-ARCH-04")
async def test_a_sink_that_was_away_for_an_hour_catches_up_and_the_archive_never_waits(
    site: Site, plant: SealedPlant, subject: SinkSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real_sleep = ManualClock(), asyncio.sleep

    async def pass_time(seconds: float) -> None:
        clock.advance_ns(round(seconds * 1e9))
        await real_sleep(0)

    async def in_archive(function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    monkeypatch.setattr(feeding.asyncio, "sleep", pass_time)
    began_ns = clock.utc_ns()
    feed = SinkFeed(subject.sink(), site.archive, site.store, in_archive, clock)
    await site.receive(plant.records)
    subject.take_away()
    task = asyncio.create_task(feed.run())
    while clock.utc_ns() - began_ns < 3600 * 10**9:
        await real_sleep(0.001)
        plant.data()
        await site.receive(plant.records[-1:])
    away = feed.status()
    await asyncio.to_thread(subject.bring_back)
    feed.wake()
    while feed.status().lag_ns or feed.status().state != "up":
        await real_sleep(0.001)
        clock.advance_ns(10**9)
    while not task.done():  # A library may lose a cancellation; the relay's task group insists as well.
        task.cancel()
        await asyncio.wait([task], timeout=1)
    feed.close()

    assert (away.state, away.code) == ("down", "TG-R08")
    assert away.lag_ns >= 3600 * 10**9
    assert compared(await subject.content(), plant) == expected(plant)


async def test_a_record_waits_for_its_catalogue_also_over_a_restart(
    site: Site, plant: SealedPlant, subject: SinkSubject
) -> None:
    catalogue = [record for record in plant.records if record.type.name == "CATALOG"][:1]
    await site.receive(record for record in plant.records if record not in catalogue)
    await fed(site, subject)
    before = await subject.content()
    await site.restart()
    await site.receive(catalogue)
    await fed(site, subject)

    data = {plant.place(record) for record in plant.records if record.type.name == "DATA"}
    assert data & set(before) == set()
    assert compared(await subject.content(), plant) == expected(plant)
