"""A relay behind a real mosquitto: what arrives is archived once, exactly, before it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import cbor2
import orjson
import pytest
from structlog.testing import capture_logs

from edge.health import ViewStatus
from edge.mqtt.access import BrokerAccess
from edge.relay.connection import RETRY_LIMIT_NS
from edge.relay.follow import ViewPlan
from edge.relay.relay import Relay, RelayPlan
from edge.seal import Record
from edge.verify import Verdict
from tests.peers.relay.conftest import Plant
from tests.support.chains import archived_records
from tests.support.faulty_broker import FaultyBroker
from tests.support.waiting import until

NS = 10**9


@pytest.fixture
def plan(tmp_path: Path, plant: Plant, mosquitto_port: int) -> RelayPlan:
    broker = BrokerAccess(host="127.0.0.1", port=mosquitto_port, client_id="relay")
    view = ViewPlan(broker=replace(broker, client_id="view"), prefix="plant")
    return RelayPlan(archive=tmp_path / "archive", trust=[plant.trust], broker=broker, view=view)


@pytest.fixture
def stranger(tmp_path: Path) -> Plant:
    return Plant.start(tmp_path, "stranger")


@pytest.fixture
def restarts(tmp_path: Path, plant: Plant) -> tuple[Plant, Plant]:
    """The same gateway, started twice more."""
    return Plant.start(tmp_path, plant.name), Plant.start(tmp_path, plant.name)


@asynccontextmanager
async def running(plan: RelayPlan) -> AsyncIterator[Relay]:
    """A relay at work and subscribed."""
    async with Relay(plan) as relay:
        task = asyncio.create_task(relay.run())
        await until(lambda: relay.report().state == "up" or task.done())
        try:
            yield relay
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def send(port: int, plant: Plant, records: Iterable[Record]) -> None:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for record in records:
            await client.publish(plant.topic(record), record.data, qos=1, retain="checkpoint" in plant.topic(record))


async def shown(port: int, count: int, /, **wanted: Any) -> dict[str, Any]:
    """Retained values by topic, as soon as there are so many and the wanted tags have their values."""
    values: dict[str, Any] = {}
    async with aiomqtt.Client("127.0.0.1", port) as client, asyncio.timeout(20):
        await client.subscribe("plant/#")
        async for message in client.messages:
            values[message.topic.value] = orjson.loads(message.payload)
            now = {topic.rpartition("/")[2]: payload["v"] for topic, payload in values.items()}
            if len(values) == count and wanted.items() <= now.items():
                break
    return values


def archived(plan: RelayPlan, gateway: str = "line-4") -> list[bytes]:
    return archived_records(plan.archive / gateway)


def count_of(relay: Relay, plant: Plant, verdict: Verdict) -> int:
    reports = {report.issuer: report for report in relay.report().gateways}
    report = reports.get(f"urn:tidegate:{plant.name}")
    return report.counts.verdicts[verdict] if report else 0


@pytest.mark.requirement("REQ-ARCH-01")
async def test_records_are_archived_byte_by_byte_and_acknowledged(plan: RelayPlan, plant: Plant) -> None:
    for number in range(20):
        plant.scan(number)
    async with running(plan) as relay:
        await send(plan.broker.port, plant, plant.records)
        await until(lambda: relay.report().acknowledged == len(plant.records))

    assert archived(plan) == [record.data for record in plant.records]
    async with running(plan) as again:
        last = plant.scan(99)
        await send(plan.broker.port, plant, [last])
        await until(lambda: again.report().acknowledged == 1)
        assert count_of(again, plant, Verdict.DUPLICATE) == 0  # All had been acknowledged.


async def test_what_the_broker_took_while_the_relay_was_away_arrives(plan: RelayPlan, plant: Plant) -> None:
    async with running(plan):
        pass
    for number in range(20):
        plant.scan(number)

    await send(plan.broker.port, plant, plant.records)

    async with running(plan) as relay:
        await until(lambda: relay.report().acknowledged == len(plant.records))
    assert archived(plan) == [record.data for record in plant.records]


@pytest.mark.requirement("REQ-SEND-03")
async def test_a_record_sent_again_is_acknowledged_and_dropped_even_after_a_restart(
    plan: RelayPlan, plant: Plant
) -> None:
    plant.scan(1)
    async with running(plan) as relay:
        await send(plan.broker.port, plant, plant.records * 2)
        await until(lambda: relay.report().acknowledged == 2 * len(plant.records))
    async with running(plan) as relay:
        await send(plan.broker.port, plant, plant.records)
        await until(lambda: relay.report().acknowledged == len(plant.records))
    (plan.archive / "relay.snapshot").unlink()
    async with running(plan) as relay:
        await send(plan.broker.port, plant, plant.records)
        await until(lambda: relay.report().acknowledged == len(plant.records))
        assert count_of(relay, plant, Verdict.DUPLICATE) == len(plant.records)

    assert archived(plan) == [record.data for record in plant.records]


@pytest.mark.requirement("REQ-ARCH-02")
async def test_an_altered_record_is_put_aside_and_never_archived(plan: RelayPlan, plant: Plant) -> None:
    good = plant.scan(1)
    bad = bytearray(good.data)
    bad[-70] ^= 1
    altered = replace(good, data=bytes(bad))

    async with running(plan) as relay:
        await send(plan.broker.port, plant, [*plant.records[:-1], altered])
        await until(lambda: count_of(relay, plant, Verdict.ALTERED) == 1)
        await send(plan.broker.port, plant, [good])
        await until(lambda: relay.report().acknowledged == len(plant.records) + 1)

    assert archived(plan) == [record.data for record in plant.records]
    _, verdict, reason, topic, data = cbor2.loads((plan.archive / "quarantine.cbor").read_bytes())
    assert (verdict, topic, data) == ("ALTERED", "tidegate/v1/line-4/r/data", bytes(bad))
    assert reason


@pytest.mark.requirement("REQ-ARCH-02")
async def test_a_gateway_that_is_not_trusted_and_garbage_are_refused(
    plan: RelayPlan, plant: Plant, stranger: Plant
) -> None:
    garbage = replace(plant.records[0], data=b"not a record")

    async with running(plan) as relay:
        await send(plan.broker.port, stranger, stranger.records)
        await send(plan.broker.port, plant, [garbage, plant.scan(1)])
        await send(plan.broker.port, plant, plant.records[:2])
        await until(lambda: relay.report().acknowledged == len(stranger.records) + 4)

    assert "stranger" not in [path.name for path in plan.archive.iterdir()]
    assert sorted(archived(plan)) == sorted(record.data for record in plant.records)


async def test_a_missing_range_is_named_exactly_and_closes_when_it_arrives(plan: RelayPlan, plant: Plant) -> None:
    for number in range(20):
        plant.scan(number)
    held_back = plant.records[7:12]

    async with running(plan) as relay:
        await send(plan.broker.port, plant, [*plant.records[:7], *plant.records[12:]])
        await until(lambda: relay.report().missing)
        gap = relay.report().missing[0]
        await send(plan.broker.port, plant, held_back)
        await until(lambda: not relay.report().missing)

    assert (gap.issuer, gap.first, gap.last) == ("urn:tidegate:line-4", 7, 11)
    assert gap.epoch == plant.records[0].epoch.hex()


async def test_a_key_that_comes_late_makes_what_came_before_it_authentic(plan: RelayPlan, plant: Plant) -> None:
    """Live records come before the backlog: they are kept, and shown as soon as they can be judged."""
    before = list(plant.records)
    key = plant.roll()
    live = plant.scan(8)

    async with running(plan) as relay:
        await send(plan.broker.port, plant, [*before, live])
        await until(lambda: count_of(relay, plant, Verdict.UNVERIFIABLE) == 1)
        await send(plan.broker.port, plant, [key])
        values = await shown(plan.broker.port, 2)

    assert values["plant/acme/basel/line-4/mixer/count"]["v"] == 4.0
    assert archived(plan) == [record.data for record in [*before, key, live]]


async def test_the_unified_namespace_shows_each_tag_retained(plan: RelayPlan, plant: Plant) -> None:
    utc_ns = time.time_ns()
    async with running(plan):
        record = plant.scan(6, utc_ns)
        await send(plan.broker.port, plant, plant.records)
        values = await shown(plan.broker.port, 2)

    count = values["plant/acme/basel/line-4/mixer/count"]
    assert count.pop("t").endswith(f"{utc_ns % NS:09d}Z")
    assert count == {
        "v": 3.0, "q": "good", "sc": 0, "u": "", "tu": 1_500, "h": False,
        "src": f"{record.epoch.hex()}/{record.seq}/0/0",
    }  # fmt: skip
    assert values["plant/acme/basel/line-4/mixer/temperature"]["v"] == 1.5


async def test_values_wait_for_a_catalogue_that_comes_later_and_backlog_replaces_nothing(
    plan: RelayPlan, plant: Plant
) -> None:
    now_ns = time.time_ns()
    epoch, catalogue = plant.records
    old, new = plant.scan(2, now_ns - 60 * NS), plant.scan(4, now_ns)

    async with running(plan):
        await send(plan.broker.port, plant, [epoch, new])
        await send(plan.broker.port, plant, [catalogue])
        first = await shown(plan.broker.port, 2)
        await send(plan.broker.port, plant, [old, plant.scan(6, now_ns - NS)])
    async with running(plan) as relay:
        await until(lambda: (view := relay.report().view) is not None and not view.waiting)
        second = await shown(plan.broker.port, 2)

    assert first["plant/acme/basel/line-4/mixer/count"]["v"] == 2.0
    assert second == first


async def test_a_view_whose_broker_is_away_does_not_hold_the_archive(plan: RelayPlan, plant: Plant) -> None:
    assert plan.view is not None
    nobody = replace(plan.view, broker=replace(plan.view.broker, port=1))
    for number in range(50):
        plant.scan(number)

    async with running(replace(plan, view=nobody)) as relay:
        await send(plan.broker.port, plant, plant.records)
        await until(lambda: relay.report().acknowledged == len(plant.records))
        await until(lambda: (view := relay.report().view) is not None and view.waiting == len(plant.records) - 1)
        behind = relay.report().view
    async with running(plan) as relay:
        await shown(plan.broker.port, 2, temperature=49 / 4, count=49 / 2)
        caught_up = relay.report().view

    assert behind is not None
    assert behind.oldest_age_ns > 0
    assert (behind.state, behind.is_behind) == ("down", False)
    assert caught_up == ViewStatus(
        state="up", reason="", is_behind=False, waiting=0, oldest_age_ns=0, dropped=0, skipped=0
    )


async def test_a_view_that_the_broker_refuses_is_told_and_the_archive_goes_on(plan: RelayPlan, plant: Plant) -> None:
    """An access list that forgets the view would otherwise look like a plant at rest."""
    assert plan.view is not None
    plant.scan(6)

    with capture_logs() as lines:
        async with running(replace(plan, view=replace(plan.view, prefix="forbidden"))) as relay:
            await send(plan.broker.port, plant, plant.records)
            await until(lambda: any(line["event"] == "view refused" for line in lines))
            report = relay.report().view
            await until(lambda: relay.report().acknowledged == len(plant.records))

    [refused] = [line for line in lines if line["event"] == "view refused"]
    assert report is not None
    assert (report.state, report.reason) == ("refused", refused["reason"])
    assert "the broker refuses the topic forbidden/acme/basel/line-4/mixer/" in refused["reason"]


@pytest.mark.requirement("REQ-ARCH-01")
async def test_nothing_is_acknowledged_while_the_disk_refuses(
    plan: RelayPlan, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(handle: int) -> None:
        asked.append(handle)
        raise OSError(28, "No space left on device")

    with capture_logs() as said:
        async with running(plan) as relay:
            with monkeypatch.context() as full:
                full.setattr("os.fdatasync", refuse)
                await send(plan.broker.port, plant, plant.records)
                await until(lambda: len(asked) > 1)
                assert relay.report().acknowledged == 0
                await until(lambda: relay.report().not_durable == len(plant.records))
                assert relay.report().unwritable_reason == "No space left on device"
            await until(lambda: relay.report().acknowledged == len(plant.records))
            assert relay.report().not_durable == 0

    assert [line["event"] for line in said if line["event"].startswith("archive can")] == [
        "archive cannot be written; nothing is acknowledged until it can",
        "archive can be written again",
    ]
    assert archived(plan) == [record.data for record in plant.records]


async def test_a_gateway_that_stays_away_is_silent_also_for_a_relay_that_was_started_since(
    plan: RelayPlan, plant: Plant
) -> None:
    hasty = replace(plan, heartbeat_ns=1_000_000)
    async with running(plan) as relay:
        await send(plan.broker.port, plant, plant.records)
        await until(lambda: relay.report().acknowledged == len(plant.records))
    async with running(hasty) as relay:
        await until(lambda: relay.report().gateways[0].is_silent)
        plant.stop()
        await send(plan.broker.port, plant, plant.records[-2:])
        await until(lambda: not relay.report().gateways[0].is_silent)

    async with running(hasty) as again:
        assert all(gateway.last_record_age_ns is None for gateway in again.report().gateways)


async def test_a_record_whose_key_is_known_only_from_further_on_is_kept_until_it_is_proven(
    plan: RelayPlan, plant: Plant
) -> None:
    """A live CHECKPOINT names the key in force before the backlog brings the KEY that introduced it."""
    before = list(plant.records)
    key, early, checkpoint = plant.roll(), plant.scan(1), plant.checkpoint()

    async with running(plan) as relay:
        await send(plan.broker.port, plant, [*before, checkpoint, early, key])
        await until(lambda: relay.report().acknowledged == len(plant.records))
        assert count_of(relay, plant, Verdict.AUTHENTIC) == len(plant.records)

    assert archived(plan) == [record.data for record in [*before, checkpoint, early, key]]


async def test_a_message_that_asks_for_no_acknowledgement_gets_none(
    plan: RelayPlan, plant: Plant, mosquitto_port: int
) -> None:
    """Acknowledging one breaks the protocol: any client that may write a status could cut the relay off for good."""
    async with aiomqtt.Client("127.0.0.1", mosquitto_port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.publish("tidegate/v1/line-9/status", b"{}", qos=0, retain=True)
        with capture_logs() as said:
            async with running(plan) as relay:
                await until(lambda: relay.report().acknowledged == 1)
                await send(mosquitto_port, plant, plant.records)
                await until(lambda: count_of(relay, plant, Verdict.AUTHENTIC) == len(plant.records))
    assert "broker lost" not in [line["event"] for line in said]


async def test_a_message_too_large_for_a_record_holds_no_other_up(
    plan: RelayPlan, plant: Plant, mosquitto_port: int
) -> None:
    """The broker drops what is larger than we said that we take, as the standard asks of it."""
    async with running(plan) as relay:
        async with aiomqtt.Client("127.0.0.1", mosquitto_port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.publish("tidegate/v1/line-4/r/data", bytes(400_000), qos=1)
        await send(mosquitto_port, plant, plant.records)
        await until(lambda: relay.report().acknowledged == len(plant.records))

    assert archived(plan) == [record.data for record in plant.records]


async def test_the_newest_checkpoint_is_saved_from_the_broker_as_the_page_says(
    mosquitto_port: int, plant: Plant, tmp_path: Path
) -> None:
    plant.checkpoint()
    plant.scan(0)
    newest = plant.checkpoint()
    await send(mosquitto_port, plant, plant.records)
    file = tmp_path / "newest.checkpoint"

    with file.open("wb") as output:
        command = ["mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", str(mosquitto_port), "-q", "1", "-C", "1", "-N",
                   "-t", "tidegate/v1/line-4/checkpoint"]  # fmt: skip
        saved = await asyncio.create_subprocess_exec(*command, stdout=output)
        async with asyncio.timeout(20):
            assert await saved.wait() == 0

    assert file.read_bytes() == newest.data


async def lag_after(relay: Relay, port: int, plant: Plant, records: list[Record]) -> int:
    """The lag of the gateway once these are acknowledged."""
    before = relay.report().acknowledged
    await send(port, plant, records)
    await until(lambda: relay.report().acknowledged == before + len(records))
    lag_ns = relay.report().gateways[0].lag_ns
    assert lag_ns is not None
    return lag_ns


async def test_the_archive_lags_by_the_age_of_the_newest_record_and_not_of_the_backlog(
    plan: RelayPlan, plant: Plant
) -> None:
    hour_ns = 3600 * NS
    backlog = plant.scan(1, time.time_ns() - 2 * hour_ns)
    epoch, catalogue, _ = plant.records
    late = plant.scan(2, time.time_ns() - hour_ns)
    live = [plant.scan(number) for number in range(3, 6)]

    async with running(plan) as relay:
        lag_of_late = await lag_after(relay, plan.broker.port, plant, [epoch, catalogue, late])
        lag_of_live = await lag_after(relay, plan.broker.port, plant, live)
        lag_in_backlog = await lag_after(relay, plan.broker.port, plant, [backlog])

    assert hour_ns < lag_of_late < 2 * hour_ns
    assert 0 < lag_of_live < hour_ns
    assert lag_in_backlog == lag_of_live


async def test_of_two_chains_the_newer_one_lags_also_after_a_clock_that_was_ahead(
    plan: RelayPlan, plant: Plant, restarts: tuple[Plant, Plant]
) -> None:
    hour_ns = 3600 * NS
    earlier, later = restarts
    plant.scan(1, time.time_ns() + 2 * hour_ns)
    earlier.scan(1, time.time_ns() - hour_ns)

    async with running(plan) as relay:
        lags = []
        for chain in (plant, later, earlier):
            if chain is later:
                later.scan(1)
            lags.append(await lag_after(relay, plan.broker.port, chain, chain.records) // hour_ns)
        newest = relay.report().gateways[0].counts.epoch

    assert lags == [-2, 0, 0]
    assert newest == later.records[0].epoch


async def test_two_relays_of_one_name_say_so(plan: RelayPlan, tmp_path: Path) -> None:
    """Each takes the session from the other, and mosquitto does not say why it closes a connection."""
    first = replace(plan, view=None)
    with capture_logs() as said:
        async with running(first), running(replace(first, archive=tmp_path / "second")):
            await until(lambda: any("a second relay" in line.get("reason", "") for line in said))

    lost = [line for line in said if line["event"] == "broker lost"]
    assert "it closed the connection, 2 times in a row soon after it was accepted; another client" in lost[-1]["reason"]


async def test_a_view_without_a_name_of_its_own_says_so(plan: RelayPlan) -> None:
    assert plan.view is not None
    async with FaultyBroker() as broker:
        same = replace(plan.broker, port=broker.port)
        with capture_logs() as said:
            async with Relay(replace(plan, broker=same, view=replace(plan.view, broker=same))) as relay:
                task = asyncio.create_task(relay.run())
                await until(lambda: any("a view that has none" in line.get("reason", "") for line in said))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_a_relay_whose_session_was_taken_over_waits_long(plan: RelayPlan) -> None:
    """Where the broker says why it ends the connection, as later ones do."""
    async with FaultyBroker() as broker:
        there = replace(plan, view=None, broker=replace(plan.broker, port=broker.port))
        with capture_logs() as said:
            async with running(there), running(replace(there, archive=plan.archive.with_name("second"))):
                await until(lambda: any(line["event"] == "broker lost" for line in said))

    [lost] = [line for line in said if line["event"] == "broker lost"]
    assert (lost["state"], lost["retry_s"] >= RETRY_LIMIT_NS / 2e9) == ("refused", True)
    assert "ended the connection: it gave the session to another client (0x8E); another client may" in lost["reason"]


@pytest.mark.parametrize("code", [0x9C, 0x9D])
async def test_the_other_server_that_the_broker_names_is_said(plan: RelayPlan, code: int) -> None:
    async with FaultyBroker() as broker:
        there = replace(plan, view=None, broker=replace(plan.broker, port=broker.port))
        async with running(there) as relay:
            broker.refer_clients(code, "other.example:8883")
            await until(lambda: relay.report().state == "refused")
            goodbye = relay.report().reason
        broker.script.connack, broker.script.properties = code, {28: "other.example:8883"}
        async with Relay(there) as again:
            task = asyncio.create_task(again.run())
            await until(lambda: again.report().state == "refused")
            refusal = again.report().reason
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    for reason in (goodbye, refusal):
        assert f'change the host in the configuration, which is "other.example:8883" (0x{code:02X})' in reason
