"""The stream: what its messages say, in which order, how often, and what Kafka can do to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from edge.kafka.client import KafkaAccess
from edge.relay.json_columns import Units
from edge.relay.reading_columns import readings_of
from edge.relay.shapes import BlockOrigin, DeviceShape
from edge.relay.sinks.sink import Parcel, SinkUnreachable
from edge.relay.sinks.stream_messages import StreamMessages
from edge.seal import Data
from tests.support.chains import UTC_NS
from tests.support.ports import free_port
from tests.support.sinks.kafka import LIMIT, Broker, Got, KafkaSubject
from tests.support.sinks.world import CATALOGUE, GROUP, S, SealedPlant, Site, changes, scan


@pytest.fixture
def stream(kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KafkaSubject:
    return KafkaSubject.create(kafka, tmp_path, monkeypatch)


@pytest.fixture
def plants() -> list[SealedPlant]:
    found = [SealedPlant(), SealedPlant("line-5")]
    for plant in found:
        plant.every_kind()
    return found


@pytest.fixture
def site(tmp_path: Path, plants: list[SealedPlant]) -> Iterator[Site]:
    site = Site(tmp_path, plants)
    yield site
    site.store.close()


async def receive(site: Site, plants: list[SealedPlant]) -> None:
    for plant in plants:
        await site.receive(plant.records, plant.name)


async def messages(stream: KafkaSubject, topic: str) -> list[Got]:
    return [each for each in await asyncio.to_thread(stream.messages) if each.topic == topic]


async def test_a_device_is_in_one_partition_in_the_order_of_its_records_and_each_value_has_unit_and_text(
    site: Site, plants: list[SealedPlant], stream: KafkaSubject
) -> None:
    for number in range(20):
        for plant in plants:
            plant.data(scan(10 + number))
    await receive(site, plants)
    async with stream.sink().session() as session:
        await site.feed(session)
    found = await messages(stream, "values")

    for plant in plants:
        mine = [each for each in found if each.said["gateway"] == plant.name]
        assert {(each.key, len({each.partition for each in mine})) for each in mine} == {
            (f"{plant.name}/mixer".encode(), 1)
        }
        places = [tuple(map(int, each.said["src"].split("/")[1:])) for each in mine]
        assert places == sorted({*places})
        assert len(mine) == 24
    last = found[-1].said
    assert (last["values"]["speed"], last["u"]["speed"]) == (122.9, "/min")
    assert (last["values"]["total"], last["values"]["batch"]) == (str(2**64 - 30), "B\x0029")
    assert (last["values"]["state"], last["x"], last["bad"]) == (1, {"state": "running"}, {})
    assert (last["values"]["power"], last["u"]["power"]) == (29000.0, "W")
    assert (last["t"], last["h"], last["group"]) == ("2023-11-14T22:13:49.000500000Z", True, "1s")
    assert 500_000 < last["tu"] < 10_000_000  # Half the request, and how far the clock may be off by then.


async def test_a_scan_says_in_a_stream_and_in_a_topic_the_same(site: Site, plants: list[SealedPlant]) -> None:
    plant = plants[0]
    plant.data(changes(3, ["mass", "power", "power_exponent"], ((1, 1, 0x80340000), (3, 1, 0x40000000))))
    await receive(site, plants[:1])
    (parcel,) = [parcel async for parcel in site.parcels("")]
    record = parcel.records[-1]
    assert isinstance(record.content, Data)
    (message,) = StreamMessages().of(record)
    (block,) = readings_of(record.content, CATALOGUE)
    units = Units(GROUP)
    units.learn_block(block.columns)
    said = orjson.loads(message.payload)
    origin = BlockOrigin(said["src"], block.time.utc_ns, block.time.uncertainty_ns, UTC_NS + 3600 * S)
    (shown,) = DeviceShape("t", GROUP, units, is_retained=False).messages(block.columns, origin).payloads

    more = {name: said.pop(name) for name in ("kind", "gateway", "device", "group", "u")}
    assert more["u"] == {"mass": "kg", "power": "W", "speed": "/min"}
    assert said == orjson.loads(shown)


async def test_after_a_crash_no_more_comes_twice_than_one_parcel(
    site: Site, plants: list[SealedPlant], stream: KafkaSubject
) -> None:
    for _ in range(5):
        plants[0].data()
    await receive(site, plants[:1])
    (whole,) = [parcel async for parcel in site.parcels("")]
    parcels = [Parcel(records=[record], mark=str(at)) for at, record in enumerate(whole.records)]
    async with stream.sink().session() as session:
        for parcel in parcels[:-1]:
            await session.write(parcel)
        stream.plan.mark.with_name("stream.mark.new").mkdir()  # The mark cannot be written: as if it ended before.
        with pytest.raises(SinkUnreachable, match=r"stream\.mark: Is a directory"):
            await session.write(parcels[-1])
    stream.plan.mark.with_name("stream.mark.new").rmdir()
    async with stream.sink().session() as session:
        assert session.mark == parcels[-2].mark
        await session.write(parcels[-1])
    found = await asyncio.to_thread(stream.messages)
    twice = {place for place, count in Counter(each.said["src"] for each in found).items() if count > 1}

    assert twice == {f"{whole.records[-1].place.epoch.hex()}/{whole.records[-1].place.seq}/0/0"}


async def test_at_another_kafka_or_prefix_it_begins_with_the_whole_archive(
    site: Site, plants: list[SealedPlant], stream: KafkaSubject, kafka: Broker, tmp_path: Path
) -> None:
    await receive(site, plants)
    async with stream.sink().session() as session:
        await site.feed(session)
    other = KafkaSubject.create(kafka, tmp_path, stream.patch)
    async with other.sink().session() as session:
        assert session.mark == ""
        await site.feed(session)

    assert await other.content() == await stream.content()


async def test_a_message_that_is_too_large_costs_no_other_of_its_batch(
    site: Site, plants: list[SealedPlant], stream: KafkaSubject
) -> None:
    plant = plants[0]
    names = [plant.data() for _ in range(3)]
    await receive(site, plants[:1])
    stream.refuse(plant.place(names[1]))
    async with stream.sink().session() as session:
        refused = await site.feed(session)
    content = await stream.content()

    assert refused == 1
    assert [plant.place(each) in content for each in names] == [True, False, True]
    assert LIMIT < 2**20  # A batch of these messages would be within what Kafka takes by default.


async def test_withdrawn_places_are_named_in_every_partition(
    site: Site, plants: list[SealedPlant], stream: KafkaSubject
) -> None:
    plant = plants[0]
    thief = plant.thief()
    await receive(site, plants[:1])
    stolen = [plant.data(chain=thief), plant.data(chain=thief)]
    await site.receive(stolen)
    async with stream.sink().session() as session:
        await site.feed(session)
        plant.roll()
        await site.receive(plant.records[-1:])
        await site.restart(is_crash=True)
        await site.feed(session)
    found = [each for each in await asyncio.to_thread(stream.messages) if each.said["kind"] == "withdrawn"]

    places = {f"{each.epoch.hex()}/{each.seq}" for each in stolen}
    assert {(each.topic, each.partition) for each in found} == {
        (topic, number) for topic in ("values", "events") for number in range(stream.partitions)
    }
    assert {place for each in found for place in each.said["places"]} == places
    assert {each.said["verdict"] for each in found} == {"FORK", "UNTRUSTED"}


@pytest.mark.parametrize(("changed", "reason", "is_for_long"), [
    ("prefix", r"there is no topic absent\.values; create it", True),
    ("port", r"it cannot be reached: Connection refused.*\(a broker whose disk is full ends\)", False),
])  # fmt: skip
async def test_what_keeps_it_from_a_session_is_a_sentence(
    stream: KafkaSubject, changed: str, reason: str, is_for_long: bool
) -> None:
    access = KafkaAccess(servers=(f"127.0.0.1:{free_port()}",), client_id="relay")
    sink = stream.sink(prefix="absent.") if changed == "prefix" else stream.sink(access=access)
    with pytest.raises(SinkUnreachable, match=reason) as raised:
        async with sink.session():
            pass

    assert raised.value.is_for_long is is_for_long
    assert raised.value.code.id == "TG-R08"
