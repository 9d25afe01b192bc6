"""The intake between a real mosquitto and a real Kafka: what the first holds no more, the second has."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiomqtt
import cbor2
import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from structlog.testing import capture_logs

from edge.cli import cli
from edge.clock import SystemClock
from edge.errors import ErrorCode
from edge.health.problems import StatusAnswer
from edge.health.snapshot import GatewayStatus, StatusSnapshot
from edge.kafka.client import KafkaAccess, KafkaLink
from edge.mqtt.access import BrokerAccess
from edge.relay.scale.intake import IntakePlan, KafkaIntake
from edge.seal import Record, RecordType
from tests.peers.relay.conftest import Plant
from tests.support.kafka import Kafka, KafkaSetup, running_kafka
from tests.support.mosquitto import running_mosquitto
from tests.support.waiting import wait_until

PARTITIONS = 8
LIMIT_S = 90  # Kafka takes its time on a busy machine.
LAST = iter(range(1000))


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with running_kafka(KafkaSetup(accounts={"intake": "secret"}, lists=True)) as broker:
        yield broker


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with running_mosquitto(tmp_path, "topic readwrite #\n", "max_inflight_messages 512\n") as port:
        yield port


@pytest.fixture
def plants(tmp_path: Path) -> list[Plant]:
    return [Plant.start(tmp_path, name) for name in ("line-4", "line-5")]


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"t{next(LAST)}.records"
    kafka.create_topic(name, PARTITIONS)
    return name


@pytest.fixture
def plan(kafka: Kafka, port: int, topic: str) -> IntakePlan:
    return IntakePlan(
        broker=BrokerAccess(host="127.0.0.1", port=port, client_id="intake-1", in_flight=512),
        kafka=KafkaAccess(servers=(kafka.address(),), client_id="intake-1"), topic=topic, partitions=PARTITIONS,
    )  # fmt: skip


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(plan: IntakePlan) -> AsyncIterator[KafkaIntake]:
    """An intake that is subscribed."""
    async with KafkaIntake(plan, SystemClock()) as intake:
        task = asyncio.create_task(intake.run())
        try:
            await until(lambda: intake.status().state == "up" or task.done())
            yield intake
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@contextmanager
def process(plan: IntakePlan, folder: Path, name: str = "intake-1") -> Iterator[subprocess.Popen[bytes]]:
    """`tidegate relay --role intake` that is subscribed; ended with the block."""
    config = folder / f"{name}.yaml"
    config.write_text(
        f"relay:\n  name: {name}\n  mqtt: {{host: 127.0.0.1, port: {plan.broker.port}, tls: off}}\n"
        f"  status: {{socket: {folder / name}}}\n"
        f"  kafka: {{servers: ['{plan.kafka.servers[0]}'], tls: off, prefix: {plan.topic.removesuffix('records')}, "
        f"partitions: {plan.partitions}}}\n"
    )
    command = [sys.executable, "-c", "from edge.cli import main; main()", "relay", str(config), "--role", "intake"]
    with subprocess.Popen([*command, "--json"], stderr=subprocess.PIPE) as running:
        try:
            assert running.stderr is not None
            assert any(b'"subscribed"' in line for line in running.stderr)
            yield running
        finally:
            running.kill()


async def send(port: int, messages: Iterable[tuple[str, bytes]]) -> None:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for to, data in messages:
            await client.publish(to, data, qos=1)


def messages(plant: Plant, records: Iterable[Record] | None = None) -> list[tuple[str, bytes]]:
    return [(plant.topic(record), record.data) for record in (plant.records if records is None else records)]


def in_topic(kafka: Kafka, topic: str) -> list[Message]:
    """All of it, in the order of each partition."""
    consumer = Consumer({"bootstrap.servers": kafka.address(), "group.id": "test", "enable.partition.eof": False})
    try:
        consumer.list_topics(topic, 30)  # A new client knows no partition yet.
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, each), 30)[1] for each in range(PARTITIONS)]
        consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
        found: list[Message] = []
        while len(found) < sum(ends):
            found += [each for each in consumer.consume(sum(ends) - len(found), 10) if each.error() is None]
        return found
    finally:
        consumer.close()


def values(kafka: Kafka, topic: str) -> set[bytes]:
    return {each.value() or b"" for each in in_topic(kafka, topic)}


def problems(intake: KafkaIntake) -> list[tuple[str, str, str]]:
    """What `tidegate status` says of Kafka."""
    gateway = GatewayStatus(name="i", role="relay", version="", pid=1, uptime_ns=1, resident_bytes=1)
    answer = StatusAnswer.of(StatusSnapshot(gateway=gateway, relay=intake.status()), "")
    return [(each.state, each.code, each.text) for each in answer.problems if each.subject == "sink kafka"]


async def test_every_record_is_in_the_topic_exact_with_its_gateway_as_key_and_in_order(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan
) -> None:
    for plant in plants:
        for number in range(200):
            plant.scan(number)
    before_ms = time.time_ns() // 10**6

    async with running(plan) as intake:
        await asyncio.gather(*(send(port, [*messages(plant), (f"tidegate/v1/{plant.name}/status", b"{}")])
                               for plant in plants))  # fmt: skip
        await until(lambda: sum(each.records for each in intake.status().issuers) == 404)
        assert intake.status().sinks[0].records == 404
        assert problems(intake) == []

    found: dict[bytes | None, list[Message]] = defaultdict(list)
    for each in in_topic(kafka, plan.topic):
        found[each.key()].append(each)
    assert {key: [each.value() for each in some] for key, some in found.items()} == {
        plant.name.encode(): [record.data for record in plant.records] for plant in plants
    }
    assert all(len({each.partition() for each in some}) == 1 for some in found.values())
    assert all(before_ms <= each.timestamp()[1] <= time.time_ns() // 10**6 for some in found.values() for each in some)


async def test_what_cannot_be_a_record_of_its_topic_is_counted_kept_aside_and_acknowledged(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan, tmp_path: Path
) -> None:
    mine, other = plants
    foreign = [(mine.topic(record), record.data) for record in other.records]
    plan = replace(plan, quarantine=tmp_path / "aside")

    with capture_logs() as said:
        async with running(plan) as intake:
            await send(port, [("tidegate/v1/line-4/r/data", b"no record"), *foreign, *messages(mine)])
            await until(lambda: intake.status().sinks[0].records == 2)
            await until(lambda: intake.status().not_durable == 0)
            (counted,) = intake.status().issuers

    assert (counted.issuer, counted.records, counted.rejected) == ("urn:tidegate:line-4", 2, 3)
    assert values(kafka, plan.topic) == {record.data for record in mine.records}
    refused = [each for each in said if each["event"] == "record refused"]
    assert len(refused) == 1
    with (tmp_path / "aside/quarantine.cbor").open("rb") as file:
        kept = [cbor2.load(file)[2:] for _ in range(3)]
    assert [each[1:] for each in kept] == [["tidegate/v1/line-4/r/data", b"no record"], *map(list, foreign)]
    assert kept[1][0] == "it names urn:tidegate:line-5, and came on a topic of another gateway"


def test_killed_again_and_again_it_loses_nothing_that_the_broker_holds_no_more(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan, tmp_path: Path
) -> None:
    plant = plants[0]
    for number in range(1500):
        plant.scan(number)

    for share in range(2):
        with process(plan, tmp_path) as intake:
            asyncio.run(send(port, messages(plant, plant.records[share::2])))
            intake.send_signal(signal.SIGKILL)
    with process(plan, tmp_path):
        wait_until(lambda: len(values(kafka, plan.topic)) == len(plant.records))
        status = CliRunner().invoke(cli, ["status", str(tmp_path / "intake-1.yaml"), "--json"])

    assert values(kafka, plan.topic) == {record.data for record in plant.records}
    answer = orjson.loads(status.stdout)
    assert answer["relay"]["sinks"][0]["state"] == "up"
    assert answer["verdict"] == "OK"


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_of_two_intakes_the_other_goes_on_where_one_dies(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan, tmp_path: Path
) -> None:
    plant = plants[0]
    for number in range(600):
        plant.scan(number)

    with process(plan, tmp_path, "intake-2") as dies:
        async with running(plan):
            await send(port, messages(plant, plant.records[:300]))
            dies.kill()
            await send(port, messages(plant, plant.records[300:]))
            await until(lambda: len(values(kafka, plan.topic)) == len(plant.records))

    assert values(kafka, plan.topic) == {record.data for record in plant.records}


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_without_kafka_nothing_is_acknowledged_or_read_on_and_with_it_all_goes_on(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan
) -> None:
    plant = plants[0]
    flood = [("tidegate/v1/line-4/r/data", b"x" * 100_000)] * 200  # 20 MB, of which 4 are read.
    async with running(plan) as intake:
        await until(lambda: intake.status().sinks[0].state == "up")
        kafka.stop()
        await send(port, [*messages(plant), *flood])
        await until(lambda: intake.status().sinks[0].state == "down")
        held = intake.status().not_durable
        assert 2 < held < 60
        assert intake.status().sinks[0].records == 0
        ((state, code, _),) = problems(intake)
        assert (state, code) == ("DOWN", ErrorCode.KAFKA_UNREACHABLE.id)

        kafka.start()
        await until(lambda: any(each.rejected == 200 for each in intake.status().issuers))

        assert problems(intake) == []
    assert values(kafka, plan.topic) == {record.data for record in plant.records}


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"partitions": 9}, ErrorCode.KAFKA_PARTITIONS, "has 8 partitions, and relay.kafka.partitions says 9"),
        ({"topic": "absent"}, ErrorCode.KAFKA_TOPIC, "there is no topic absent; create it"),
        ({"kafka": "secret"}, ErrorCode.KAFKA_REFUSED, "our account may not use"),
        ({"kafka": "wrong"}, ErrorCode.KAFKA_REFUSED, "it does not let account intake in"),
    ],
)
async def test_a_topic_that_is_not_as_it_has_to_be_takes_nothing_and_says_why(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan, change: dict[str, str], code: ErrorCode, reason: str
) -> None:
    if (password := change.get("kafka")) is not None:
        server = (kafka.address("SASL_PLAINTEXT"),)
        account = replace(
            plan.kafka, servers=server, mechanism="SCRAM-SHA-512", account="intake", password=lambda: password
        )
        change = {"kafka": account}
    async with running(replace(plan, **change)) as intake:
        await send(port, messages(plants[0]))
        await until(lambda: intake.status().sinks[0].code == code.id)

        ((state, _, text),) = problems(intake)
        assert state == "DOWN"
        assert reason in text
        assert intake.status().sinks[0].records == 0

    async with running(plan) as intake:  # The broker has kept them.
        await until(lambda: intake.status().sinks[0].records == 2)


async def test_what_the_topic_does_not_take_waits_until_it_does(
    kafka: Kafka, port: int, plants: list[Plant], plan: IntakePlan
) -> None:
    plant = plants[0]
    plant.seal(RecordType.EVENT, cbor2.dumps({"kind": "x" * 40_000}))
    kafka.create_topic(topic := f"small{next(LAST)}", PARTITIONS, max_message_bytes="3000")
    async with running(replace(plan, topic=topic)) as intake:
        await send(port, messages(plant))
        await until(lambda: intake.status().sinks[0].code == ErrorCode.KAFKA_TOO_LARGE.id)
        ((_, _, text),) = problems(intake)
        assert f"topic {topic} takes no message so large; raise max.message.bytes" in text
        assert intake.status().not_durable > 0

        set_to(kafka, topic, "max.message.bytes", "1000000")
        await until(lambda: intake.status().sinks[0].records == len(plant.records))

    assert values(kafka, topic) == {record.data for record in plant.records}


def set_to(kafka: Kafka, topic: str, setting: str, value: str) -> None:
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    admin = kafka.admin()
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(10)


@pytest.mark.parametrize(
    "number",
    [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, KafkaError.KAFKA_STORAGE_ERROR],
)
def test_a_cluster_that_cannot_keep_a_record_safely_is_named(number: int) -> None:
    """One node alone never says these: copies are missing, or a disk is full or broken."""
    failure = KafkaLink(KafkaAccess(servers=("k:1",), client_id="i")).failure(KafkaError(number), "records")

    assert str(failure) == (
        "Kafka at k:1: too few of its brokers keep topic records; start the others, and look at their disks"
    )
