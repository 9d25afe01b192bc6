"""Relays with lists of gateways share those of one real mosquitto: each takes its own, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from edge.mqtt.access import BrokerAccess
from edge.relay.relay import Relay, RelayPlan
from edge.verify import Verdict
from tests.peers.relay.conftest import Plant
from tests.support.chains import archived_records
from tests.support.waiting import until

NAMES = ("line-4", "line-5", "line-6")
SECOND_NS = 10**9


@pytest.fixture
def plants(tmp_path: Path) -> dict[str, Plant]:
    return {name: Plant.start(tmp_path, name) for name in NAMES}


@pytest.fixture
def whole(tmp_path: Path, plants: dict[str, Plant], mosquitto_port: int) -> RelayPlan:
    broker = BrokerAccess(host="127.0.0.1", port=mosquitto_port, client_id="a")
    trust = [plant.trust for plant in plants.values()]
    return RelayPlan(archive=tmp_path / "a", trust=trust, broker=broker, heartbeat_ns=SECOND_NS // 5)


def share(whole: RelayPlan, relay: str, *gateways: str) -> RelayPlan:
    """The plan of a relay of this name, for these gateways."""
    broker = replace(whole.broker, client_id=relay)
    return replace(whole, archive=whole.archive.with_name(relay), broker=broker, gateways=gateways)


@asynccontextmanager
async def running(plan: RelayPlan) -> AsyncIterator[Relay]:
    """A relay that is subscribed."""
    async with Relay(plan) as relay:
        task = asyncio.create_task(relay.run())
        await until(lambda: relay.report().state == "up" or task.done())
        try:
            yield relay
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def send(port: int, plants: Iterable[Plant]) -> None:
    """One new record of each."""
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for plant in plants:
            unsent = plant.records if len(plant.records) == 2 else plant.records[-1:]
            for record in unsent:
                await client.publish(plant.topic(record), record.data, qos=1)


def archived(plan: RelayPlan, plant: Plant) -> list[bytes]:
    folder = plan.archive / plant.name
    return archived_records(folder) if folder.exists() else []


async def test_each_relay_takes_its_gateways_and_nothing_is_taken_twice_or_left(
    whole: RelayPlan, plants: dict[str, Plant], mosquitto_port: int
) -> None:
    mine, others = share(whole, "a", "line-4"), share(whole, "b", "line-5", "line-6")
    async with running(mine) as a, running(others) as b:
        for number in range(20):
            await send(mosquitto_port, plants.values())
            for plant in plants.values():
                plant.scan(number)
        await send(mosquitto_port, plants.values())
        taken = {"a": 22, "b": 44}
        await until(lambda: (a.report().acknowledged, b.report().acknowledged) == (taken["a"], taken["b"]))

        reports = {each.issuer.rpartition(":")[2]: each for relay in (a, b) for each in relay.report().gateways}

    assert len(a.report().gateways) == 1
    assert set(reports) == set(NAMES)
    assert all(each.counts.verdicts == {Verdict.AUTHENTIC: 22} for each in reports.values())
    for plan, own in ((mine, ["line-4"]), (others, ["line-5", "line-6"])):
        for plant in plants.values():
            wanted = [record.data for record in plant.records] if plant.name in own else []
            assert sorted(archived(plan, plant)) == sorted(wanted)


async def test_a_gateway_that_moves_to_another_relay_is_neither_lost_nor_missed_where_it_was(
    whole: RelayPlan, plants: dict[str, Plant], mosquitto_port: int
) -> None:
    """The session of a relay outlives its list: what it still brings is kept, and then let go."""
    moved = plants["line-5"]
    async with running(whole) as relay:
        await send(mosquitto_port, plants.values())
        await until(lambda: relay.report().acknowledged == 6)
    moved.scan(0)
    moved.scan(1)  # The one between is missing, but not to a relay that it has left.
    await send(mosquitto_port, [moved])

    async with running(share(whole, "a", "line-4", "line-6")) as stays:
        await until(lambda: moved.records[-1].data in archived(whole, moved))
        async with running(share(whole, "b", "line-5")) as new:
            moved.scan(2)
            await send(mosquitto_port, [moved])
            await until(lambda: new.report().acknowledged == 1)
            await until(lambda: {each.issuer for each in stays.report().gateways if each.is_silent} != set())
            await asyncio.sleep(1)  # Longer than a silence, and than one look at what is missing.

            silent = {each.issuer for each in stays.report().gateways if each.is_silent}
            assert stays.report().missing == ()
            assert silent == {"urn:tidegate:line-4", "urn:tidegate:line-6"}

    assert moved.records[-1].data not in archived(whole, moved)
