"""The unified namespace at a real mosquitto: its shapes, and a view that is behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import orjson
import pytest
from structlog.testing import capture_logs

from edge.health import ViewStatus
from edge.mqtt.access import BrokerAccess
from edge.relay.archive import RecordLocation
from edge.relay.follow import ArchivedRecord, Follower, ViewPlan
from edge.relay.relay import Relay, RelayPlan
from edge.relay.unified_namespace import UnifiedNamespace
from edge.seal import Context, Record, RecordType, encode
from tests.peers.relay.conftest import Plant
from tests.support.chains import archived_records
from tests.support.faulty_broker import FaultyBroker
from tests.support.mosquitto import running_mosquitto
from tests.support.waiting import until

TOPIC = "plant/acme/basel/line-4/mixer"


@pytest.fixture
def plan(tmp_path: Path, plant: Plant, mosquitto_port: int) -> RelayPlan:
    broker = BrokerAccess(host="127.0.0.1", port=mosquitto_port, client_id="relay")
    view = ViewPlan(broker=replace(broker, client_id="view"), prefix="plant", waiting_records=10)
    return RelayPlan(archive=tmp_path / "archive", trust=[plant.trust], broker=broker, view=view)


def with_view(plan: RelayPlan, **changes: Any) -> RelayPlan:
    assert plan.view is not None
    return replace(plan, view=replace(plan.view, **changes))


@asynccontextmanager
async def running(plan: RelayPlan) -> AsyncIterator[Callable[[], ViewStatus]]:
    """A relay at work and subscribed, by the report of its view."""
    async with Relay(plan) as relay:
        task = asyncio.create_task(relay.run())
        await until(lambda: relay.report().state == "up" or task.done())

        def report() -> ViewStatus:
            view = relay.report().view
            assert view is not None
            return view

        try:
            yield report
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def send(plan: RelayPlan, plant: Plant, records: Sequence[Record]) -> None:
    async with aiomqtt.Client("127.0.0.1", plan.broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for record in records:
            await client.publish(plant.topic(record), record.data, qos=1)


async def heard(port: int, topics: set[str], source: str = "") -> dict[str, tuple[bool, dict[str, Any]]]:
    """Whether each topic's message was retained, and what it says; only of one source, where it is named."""
    found: dict[str, tuple[bool, dict[str, Any]]] = {}
    async with aiomqtt.Client("127.0.0.1", port) as client, asyncio.timeout(20):
        await client.subscribe("plant/#")
        async for message in client.messages:
            payload = orjson.loads(message.payload)
            if source in ("", payload.get("src")):
                found[message.topic.value] = message.retain, payload
            if topics <= found.keys():
                break
    return found


@pytest.mark.parametrize("qos", [0, 1])
async def test_who_subscribes_late_gets_the_whole_device_and_its_units(plan: RelayPlan, plant: Plant, qos: int) -> None:
    plan = with_view(plan, shape="device", qos=qos)
    record = plant.scan(6)
    context(plant, 7, batch="B-17", phase=None)
    unit = "plant/acme/basel/line-4/reactor-1/context"
    topics = {f"{TOPIC}/100 ms", f"{TOPIC}/100 ms/tags", unit}

    async with running(plan):
        await send(plan, plant, plant.records)
        await heard(plan.broker.port, topics)
        found = await heard(plan.broker.port, topics)

    assert {topic: is_retained for topic, (is_retained, _) in found.items()} == dict.fromkeys(topics, True)
    assert (found[unit][1]["batch"], found[unit][1]["phase"]) == ("B-17", None)
    _, device = found[f"{TOPIC}/100 ms"]
    assert device["values"] == {"count": 3.0, "temperature": 1.5}
    assert (device["bad"], device["src"]) == ({}, f"{record.epoch.hex()}/{record.seq}/0/0")
    assert found[f"{TOPIC}/100 ms/tags"][1] == {"temperature": {"u": "Cel"}, "count": {"u": ""}}


async def test_what_moved_is_not_retained(plan: RelayPlan, plant: Plant) -> None:
    plan = with_view(plan, shape="device", qos=0, is_retained=False)

    async with running(plan), aiomqtt.Client("127.0.0.1", plan.broker.port) as client, asyncio.timeout(20):
        await client.subscribe(f"{TOPIC}/100 ms")
        await send(plan, plant, [*plant.records, plant.scan(6)])
        message = await anext(client.messages)

    assert (message.retain, orjson.loads(message.payload)["values"]) == (False, {"count": 3.0, "temperature": 1.5})


async def test_a_view_whose_broker_is_away_drops_to_the_newest_values_and_the_archive_is_whole(
    plan: RelayPlan, plant: Plant, tmp_path: Path
) -> None:
    assert plan.view is not None
    (tmp_path / "view").mkdir()
    with running_mosquitto(tmp_path / "view", "topic readwrite #\n") as port:
        pass  # Nothing listens there any more.
    away = with_view(plan, broker=replace(plan.view.broker, port=port))
    for number in range(1, 50):
        plant.scan(number)
    last = plant.scan(50)

    source = f"{last.epoch.hex()}/{last.seq}/0/0"

    with capture_logs() as said:
        async with running(away) as report:
            await send(plan, plant, plant.records)
            await until(lambda: len(archived_records(plan.archive / "line-4")) == len(plant.records))
            await until(
                lambda: report().dropped > 0 and report().waiting <= 10 and report().reason != "not connected yet"
            )
            behind = report()
    async with running(plan) as report:
        found = await heard(plan.broker.port, {f"{TOPIC}/count", f"{TOPIC}/temperature"}, source)
        await until(lambda: (report().waiting, report().oldest_age_ns, report().is_behind) == (0, 0, False))
        now = report()

    assert behind.oldest_age_ns > 0
    assert (behind.state, behind.is_behind) == ("down", True)
    assert "Connection refused" in behind.reason
    assert (now.state, now.reason, now.is_behind) == ("up", "", False)
    assert [line["log_level"] for line in said if line["event"].startswith("view too far behind")] == ["warning"]
    assert found[f"{TOPIC}/count"][1]["v"] == 25.0


async def test_a_view_whose_broker_answers_nothing_holds_the_archive_no_more_than_one_that_is_away(
    plan: RelayPlan, plant: Plant
) -> None:
    assert plan.view is not None
    for number in range(50):
        plant.scan(number)

    async with FaultyBroker() as silent:
        silent.script.answer = lambda message, count: None
        stuck = with_view(plan, broker=replace(plan.view.broker, port=silent.port))
        async with running(stuck) as report:
            await send(plan, plant, plant.records[:3])
            await until(lambda: silent.received["PUBLISH"] == 2)
            await send(plan, plant, plant.records[3:])
            await until(lambda: len(archived_records(plan.archive / "line-4")) == len(plant.records))
            await until(lambda: report().dropped > 0 and report().waiting <= 10)

    assert silent.received["PUBLISH"] == 2


def follower_of(records: list[Record], shown_ns: dict[str, int] | None = None) -> Follower:
    """What is archived is a list of records."""
    return Follower(UnifiedNamespace("plant", shown_ns), lambda location: records[location.offset].data, 10)


def context(plant: Plant, number: int, **members: str | None) -> Record:
    """What the reactor does under this number."""
    said = Context(number=number, unit="reactor-1", members=members, from_ns=number, to_ns=number + 1)
    return plant.seal(RecordType.CONTEXT, encode(said))


def archived(records: Sequence[Record], first: int = 0) -> list[ArchivedRecord]:
    return [ArchivedRecord(RecordLocation("line-4", "day", first + n, 0), n) for n, _ in enumerate(records)]


def shown(follower: Follower) -> list[tuple[str, Any]]:
    """Tags and values in the order of their messages."""
    messages = [pair for each in follower.messages() for pair in zip(each.topics, each.payloads, strict=True)]
    return [(topic.rpartition(b"/")[2].decode(), orjson.loads(payload)["v"]) for topic, payload in messages]


def test_one_that_is_behind_counts_every_value_that_it_leaves_out(plant: Plant) -> None:
    for number in range(1, 13):
        plant.scan(number)
    follower = follower_of(plant.records)
    follower.add(archived(plant.records))

    was_behind = follower.is_behind
    follower.catch_up()

    assert (was_behind, follower.is_behind, follower.dropped) == (True, False, 2 * 11)
    assert shown(follower) == [("count", 6.0), ("temperature", 3.0)]
    assert not follower.has_more


def test_what_a_view_was_to_show_is_shown_after_a_restart(plant: Plant) -> None:
    for number in range(1, 13):
        plant.scan(number)
    follower = follower_of(plant.records)
    follower.add(archived(plant.records))
    follower.catch_up()

    state = follower.state()
    again = follower_of(plant.records, state.shown_ns)
    again.restore(state)

    assert shown(again) == [("count", 6.0), ("temperature", 3.0)]


def test_after_a_lost_connection_the_newest_value_of_every_tag_is_shown_again(plant: Plant) -> None:
    plant.scan(1)
    plant.scan(2)
    follower = follower_of(plant.records)
    follower.add(archived(plant.records))
    before = shown(follower)

    follower.show_all_again()

    assert before == [("count", 0.5), ("temperature", 0.25), ("count", 1.0), ("temperature", 0.5)]
    assert shown(follower) == [("count", 1.0), ("temperature", 0.5)]
    assert follower.dropped == 0


def batches(follower: Follower) -> list[str]:
    return [orjson.loads(payload)["batch"] for each in follower.messages() for payload in each.payloads]


def test_a_context_waits_for_a_catalogue_of_its_chain_also_over_restarts_and_an_old_one_is_never_shown(
    plant: Plant,
) -> None:
    catalogue = len(plant.records)
    for number in (7, 8):
        context(plant, number, batch=f"B-{number}")
    newest = archived(plant.records)[-1:]
    follower = follower_of(plant.records)
    follower.add(newest)

    before = batches(follower), follower.unfinished
    again = follower_of(plant.records, follower.state().shown_ns)
    again.restore(follower.state())
    again.add(archived(plant.records)[1:catalogue])
    after = batches(again)
    last = follower_of(plant.records, again.state().shown_ns)
    last.restore(again.state())
    last.add(archived(plant.records)[catalogue:])

    assert (before, after) == (([], 1), ["B-8"])
    assert (batches(last), batches(last), last.skipped) == (["B-8"], [], 0)
