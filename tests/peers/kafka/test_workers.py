"""Workers on a real Kafka and a real PostgreSQL: each record is stored once, whoever takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from edge.kafka.client import KafkaAccess
from edge.kafka.member import MemberPlan
from edge.model import Catalogue
from edge.relay.relay import Relay, RelayPlan
from edge.relay.scale.database import DatabaseShares
from edge.relay.scale.shares import Shares, StaleOwner
from edge.relay.scale.table_shares import TableShares
from edge.relay.scale.worker import Worker
from edge.relay.sinks.sink import Parcel, Place
from edge.seal import Record, issuer_of
from edge.seal.record import ISSUER_PREFIX
from edge.testing.clock import ManualClock
from tests.support.kafka import Kafka, running_kafka
from tests.support.postgres import Postgres, running_postgres
from tests.support.sinks.postgres import PostgresSubject
from tests.support.sinks.world import GROUP, SealedPlant
from tests.support.waiting import until

# Which loop it is makes no difference to Kafka, and each test takes seconds.
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

_numbers = count(1)
NOTHING = Parcel(records=(), mark="")
OTHER = Catalogue(path="acme/basel/line-4/other", groups=(GROUP,))
PARTITIONS = 6


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with running_kafka() as broker:
        yield broker


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


class Enterprise:
    """Gateways whose records are in a topic, and workers that share them."""

    def __init__(self, folder: Path, kafka: Kafka, database: PostgresSubject | None) -> None:
        self.folder, self.kafka, self.database = folder, kafka, database
        self.topic = f"records-{next(_numbers)}"
        kafka.create_topic(self.topic, PARTITIONS)
        kafka.create_topic(f"{self.topic}-chains", PARTITIONS, cleanup_policy="compact")
        self.plants = [SealedPlant(f"line-{number}") for number in range(12)]
        self.trust = []
        for plant in self.plants:
            path = folder / f"{plant.name}.pub.pem"
            path.write_bytes(plant.identity.public_pem(issuer_of(plant.name)))
            self.trust.append(path)
            plant.every_kind()
        self.producer = Producer({"bootstrap.servers": kafka.address(), "acks": "all", "partitioner": "murmur2_random"})

    def produce(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in messages:
            self.producer.produce(self.topic, value, key)
        assert self.producer.flush(30) == 0

    async def send(self, records: Iterable[tuple[SealedPlant, Record]]) -> None:
        await asyncio.to_thread(self.produce, [(plant.name.encode(), record.data) for plant, record in records])

    async def send_all(self) -> None:
        await self.send((plant, record) for plant in self.plants for record in plant.records)

    async def send_new(self) -> None:
        """The next scan of each gateway."""
        await self.send((plant, plant.data()) for plant in self.plants)

    def end_of(self, partition: int) -> int:
        consumer = Consumer({"bootstrap.servers": self.kafka.address(), "group.id": "any"})
        try:
            return consumer.get_watermark_offsets(TopicPartition(self.topic, partition), 30)[1]
        finally:
            consumer.close()

    def lose_tail(self, partition: int) -> None:
        keep = self.end_of(partition) - 3
        self.kafka.kill()
        self.kafka.lose_tail(self.topic, keep, partition)
        self.kafka.start()

    def shares(self, name: str) -> Shares:
        if self.database is None:
            return TableShares(KafkaAccess(servers=(self.kafka.address(),), client_id=name), f"{self.topic}-chains")
        return DatabaseShares(self.database.sink(relay=name), self.topic, name)

    @asynccontextmanager
    async def worker(self, name: str, group: str = "workers") -> AsyncIterator[Relay]:
        access = KafkaAccess(servers=(self.kafka.address(),), client_id=name)
        plan = MemberPlan(
            kafka=access, topic=self.topic, partitions=PARTITIONS, group=f"{self.topic}-{group}", name=name
        )
        source = Worker(plan, self.shares(name), ManualClock())
        relay = Relay(RelayPlan(archive=self.folder / name, trust=self.trust), source=source)
        async with relay:
            task = asyncio.create_task(relay.run())
            try:
                yield relay
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def expected(self) -> dict[Place, str]:
        return {plant.place(record): "" for plant in self.plants for record in plant.records
                if record.type.name != "CATALOG"}  # fmt: skip

    async def stored(self) -> dict[Place, str]:
        assert self.database is not None
        catalogues = {plant.place(record) for plant in self.plants for record in plant.records
                      if record.type.name == "CATALOG"}  # fmt: skip
        return {place: fell for place, fell in (await self.database.content()).items() if place not in catalogues}


def gateways(relay: Relay) -> set[str]:
    """Those that a worker owns, and has heard of since."""
    return {each.issuer.removeprefix(ISSUER_PREFIX) for each in relay.report().gateways}


@pytest.fixture
def enterprise(tmp_path: Path, kafka: Kafka, postgres: Postgres) -> Enterprise:
    return Enterprise(tmp_path, kafka, PostgresSubject.create(postgres))


async def shared(enterprise: Enterprise, *relays: Relay) -> None:
    """Send until each has gateways."""
    for _ in range(60):
        await enterprise.send_new()
        if all(map(gateways, relays)):
            return
        await asyncio.sleep(0.5)
    pytest.fail("one has no gateway")


async def until_stored(enterprise: Enterprise) -> None:
    for _ in range(600):
        if await enterprise.stored() == enterprise.expected():
            return
        await asyncio.sleep(0.1)
    assert await enterprise.stored() == enterprise.expected()


async def test_two_workers_share_the_gateways_and_store_each_record_once(enterprise: Enterprise) -> None:
    await enterprise.send_all()
    async with enterprise.worker("a") as first, enterprise.worker("b") as second:
        await shared(enterprise, first, second)
        await until_stored(enterprise)
        owned = gateways(first), gateways(second)

    assert owned[0] & owned[1] == set()
    assert owned[0] | owned[1] == {plant.name for plant in enterprise.plants}


async def test_another_worker_takes_only_the_gateways_that_move(enterprise: Enterprise) -> None:
    async with enterprise.worker("a") as first, enterprise.worker("b") as second:
        await enterprise.send_all()
        await shared(enterprise, first, second)
        await until_stored(enterprise)
        before = gateways(first), gateways(second)
        async with enterprise.worker("c") as third:
            await shared(enterprise, third)
            await until_stored(enterprise)
            stayed = gateways(first), gateways(second)
            assert gateways(third) == (before[0] - stayed[0]) | (before[1] - stayed[1])

    assert stayed[0] <= before[0]
    assert stayed[1] <= before[1]


async def test_what_waits_for_its_key_or_catalogue_moves_along(enterprise: Enterprise) -> None:
    late: list[tuple[SealedPlant, Record]] = []
    for plant in enterprise.plants:
        late.append((plant, plant.roll()))
        plant.data()
        late += [(plant, record) for record in plant.announce(OTHER)]
        plant.data()
    await enterprise.send((plant, record) for plant in enterprise.plants for record in plant.records
                          if record not in [each for _, each in late])  # fmt: skip
    async with enterprise.worker("a") as first:
        await until(lambda: first.report().acknowledged >= 12 * (len(enterprise.plants[0].records) - 3))
        assert sum(each.waiting for each in first.report().gateways) == 24
    await enterprise.send(late)
    async with enterprise.worker("b", group="others"):
        await until_stored(enterprise)


async def test_without_a_database_the_chains_are_in_a_compacted_topic(tmp_path: Path, kafka: Kafka) -> None:
    enterprise = Enterprise(tmp_path, kafka, None)
    await enterprise.send_all()
    count = sum(len(plant.records) for plant in enterprise.plants)
    async with enterprise.worker("a") as first:
        await until(lambda: first.report().acknowledged >= count)
    await enterprise.send_new()
    async with enterprise.worker("b", group="others") as second:
        await until(lambda: second.report().archived_records >= 12)
        taken = second.report()

    assert taken.acknowledged - PARTITIONS <= 12
    assert [each for each in taken.missing if not each.is_declared] == []


async def test_who_was_followed_stores_nothing_any_more(enterprise: Enterprise) -> None:
    async with enterprise.shares("a").session() as stale, enterprise.shares("b").session() as owner:
        old, new = await stale.claim(3), await owner.claim(3)
        old.share.next_offset = new.share.next_offset = 7
        with pytest.raises(StaleOwner, match="another worker took over"):
            await stale.store(NOTHING, [old.share], {3: {"line-1": b"old"}})
        await owner.store(NOTHING, [new.share], {3: {"line-1": b"new"}})
        again = await owner.claim(3)

    assert (again.share.generation, again.share.next_offset, again.rows) == (3, 7, {"line-1": b"new"})


async def test_another_number_of_partitions_is_refused(enterprise: Enterprise) -> None:
    await enterprise.send_all()
    await asyncio.to_thread(enterprise.kafka.grow, enterprise.topic, PARTITIONS + 1)
    async with enterprise.worker("a") as relay:
        await until(lambda: relay.report().code == "TG-R12")
        report = relay.report()

    assert f"has {PARTITIONS + 1} partitions, and relay.kafka.partitions says {PARTITIONS}" in report.reason
    assert (report.state, report.archived_records) == ("refused", 0)


async def test_foreign_content_and_a_wrong_key_are_set_aside(enterprise: Enterprise) -> None:
    plant, other = enterprise.plants[:2]
    await enterprise.send_all()
    produced = [(b"line-1", b"not a record"), (other.name.encode(), plant.data().data), (b"\xff/..", b"\x00"),
                (b"", b"")]  # fmt: skip
    await asyncio.to_thread(enterprise.produce, produced)
    del plant.records[-1]
    async with enterprise.worker("a") as relay:
        await until_stored(enterprise)
        await until(lambda: sum(each.counts.refused for each in relay.report().gateways) == 1)

    quarantine = (enterprise.folder / "a/quarantine.cbor").read_bytes()
    assert b"it names urn:tidegate:line-0, and came on a topic of another gateway" in quarantine
    assert not (enterprise.folder / "a").joinpath("..").joinpath("\ufffd").exists()


async def test_a_tail_that_kafka_lost_is_seen_and_what_was_stored_stays(enterprise: Enterprise) -> None:
    """The gateway sends it again; until then it is missing only where no worker had taken it."""
    await enterprise.send_all()
    async with enterprise.worker("a"):
        await until_stored(enterprise)
    partition = next(each for each in range(PARTITIONS) if enterprise.end_of(each))
    enterprise.lose_tail(partition)
    await enterprise.send_new()
    async with enterprise.worker("b", group="others") as relay:
        await until_stored(enterprise)
        missing = [each for each in relay.report().missing if not each.is_declared]

    assert missing == []


async def test_what_kafka_lost_before_it_was_taken_is_missing_until_gateways_send_it_again(
    enterprise: Enterprise,
) -> None:
    await enterprise.send_all()
    async with enterprise.worker("a"):
        await until_stored(enterprise)
    await enterprise.send_new()
    partition = next(each for each in range(PARTITIONS) if enterprise.end_of(each))
    enterprise.lose_tail(partition)
    await enterprise.send_new()
    async with enterprise.worker("b", group="others") as relay:
        await until(lambda: relay.report().missing)
        await enterprise.send_all()  # As tidegate resend does with what is missing.
        await until_stored(enterprise)
        await until(lambda: not relay.report().missing)


async def test_a_database_that_is_away_costs_nothing(enterprise: Enterprise) -> None:
    """What was taken meanwhile is stored once it is back, and is in the archive once."""
    assert enterprise.database is not None
    await enterprise.send_all()
    async with enterprise.worker("a") as relay:
        await until_stored(enterprise)
        await asyncio.to_thread(enterprise.database.take_away)
        await enterprise.send_new()
        await until(lambda: relay.report().state == "down")
        reason, archived = relay.report().reason, relay.report().archived_records
        await enterprise.send_new()
        await asyncio.to_thread(enterprise.database.bring_back)
        await until_stored(enterprise)
        counts = relay.report()

    assert "cannot be reached" in reason or "shutting down" in reason
    assert archived <= counts.archived_records - 12  # Of the first 12 some may be taken before it is seen.
    assert counts.archived_records == sum(len(plant.records) for plant in enterprise.plants)


async def test_kafka_that_was_killed_costs_nothing(enterprise: Enterprise) -> None:
    await enterprise.send_all()
    async with enterprise.worker("a") as relay:
        await until_stored(enterprise)
        await asyncio.to_thread(enterprise.kafka.kill)
        await until(lambda: relay.report().state == "down")
        reason, code = relay.report().reason, relay.report().code
        enterprise.kafka.start()
        await enterprise.send_new()
        await until_stored(enterprise)

    assert code == "TG-R09"
    assert reason.startswith("Kafka at 127.0.0.1:")


async def test_two_workers_of_one_name_do_not_both_take(enterprise: Enterprise, tmp_path: Path) -> None:
    await enterprise.send_all()
    async with enterprise.worker("a") as first:
        await until_stored(enterprise)
        enterprise.folder = tmp_path / "elsewhere"
        enterprise.folder.mkdir()
        async with enterprise.worker("a") as second:
            await until(lambda: "another relay writes there under the name a" in second.report().reason)
            await enterprise.send_new()
            await until_stored(enterprise)

    assert first.report().acknowledged >= len(enterprise.expected())
    assert second.report().acknowledged == 0


async def test_without_a_database_the_second_worker_of_a_name_ends_the_first(tmp_path: Path, kafka: Kafka) -> None:
    enterprise = Enterprise(tmp_path, kafka, None)
    await enterprise.send_all()
    async with enterprise.worker("a") as first:
        await until(lambda: first.report().acknowledged >= len(enterprise.plants))
        enterprise.folder = tmp_path / "elsewhere"
        enterprise.folder.mkdir()
        async with enterprise.worker("a"):
            await until(lambda: first.report().state != "up")
            reason = first.report().reason

    assert "another worker has the name of this one" in reason
