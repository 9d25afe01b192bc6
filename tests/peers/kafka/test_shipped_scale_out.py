"""The shipped files for relays that share the load, on a Kafka with the topics and access lists that are shipped."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from edge.health import read_status
from edge.kafka.client import KafkaAccess
from edge.kafka.table import Table
from edge.relay.archive import record_files, records_of
from tests.peers.relay.conftest import Plant
from tests.support.authority import OpensslAuthority
from tests.support.kafka import Kafka, KafkaSetup, running_kafka
from tests.support.kafka_commands import calls, do
from tests.support.mosquitto import running_mosquitto
from tests.support.waiting import wait_until

SHIPPED = Path(__file__).parents[3] / "configs/scale-out"
PASSWORDS = {"tidegate-intake": "one", "tidegate-worker": "two", "tidegate-consumer": "three"}
ONE_BROKER = {"COPIES": "1", "SYNCED": "1", "DATABASE": "no"}
DENIED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
          KafkaError.CLUSTER_AUTHORIZATION_FAILED}  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    return OpensslAuthority(tmp_path_factory.mktemp("authority") / "plant")


@pytest.fixture(scope="module")
def kafka(authority: OpensslAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    certificate, key = authority.issue("broker", use="serverAuth")
    setup = KafkaSetup(certificate=certificate, key=key, ca=authority.path, accounts=PASSWORDS, lists=True)
    with running_kafka(setup) as broker:
        do(calls(SHIPPED / "topics.sh", tmp_path_factory.mktemp("commands"), ONE_BROKER), broker)
        yield broker


def shipped(name: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    return settings


def test_where_there_is_a_database_no_topic_of_chains_is_made(tmp_path: Path) -> None:
    found = calls(SHIPPED / "topics.sh", tmp_path, {})

    made = [call[call.index("--topic") + 1] for call in found if call[0] == "kafka-topics.sh"]
    assert made == ["tidegate.records", "tidegate.values", "tidegate.events"]
    assert not any("tidegate.chains" in call for call in found)
    assert all("min.insync.replicas=2" in call for call in found if call[0] == "kafka-topics.sh")


def test_topics_are_as_settings_and_page_say(kafka: Kafka) -> None:
    admin = kafka.admin()
    topics = admin.list_topics(timeout=30).topics
    found = {}
    for name in ("records", "values", "events", "chains"):
        resource = ConfigResource(ResourceType.TOPIC, f"tidegate.{name}")
        found[name] = {key: each.value for key, each in admin.describe_configs([resource])[resource].result(30).items()}

    assert len(topics["tidegate.records"].partitions) == len(topics["tidegate.chains"].partitions) == 64
    assert {name: each["cleanup.policy"] for name, each in found.items()} == {
        "records": "delete", "values": "delete", "events": "delete", "chains": "compact"
    }  # fmt: skip
    assert {each["message.timestamp.type"] for each in found.values()} == {"CreateTime"}
    assert {each["unclean.leader.election.enable"] for each in found.values()} == {"false"}
    for name in ("intake-1", "intake-2", "worker-1", "worker-2", "worker-3"):
        settings = shipped(name)["relay"]["kafka"]
        assert (settings["prefix"], settings["partitions"]) == ("tidegate.", 64)
        assert settings["sasl"]["account"] == f"tidegate-{name[:-2]}"


@pytest.mark.parametrize("names", [["intake-1", "intake-2"], ["worker-1", "worker-2", "worker-3"]])
def test_files_of_a_role_differ_in_the_name_only(names: list[str]) -> None:
    texts = {(SHIPPED / f"{name}.yaml").read_text().replace(name, names[0]) for name in names}

    assert len(texts) == 1


@contextmanager
def relay(name: str, kafka: Kafka, folder: Path, authority: OpensslAuthority, **changes: Any) -> Iterator[Path]:
    """`tidegate relay` with a shipped file, at our Kafka; its status socket."""
    role, settings = name[:-2], shipped(name)
    home = folder / name
    secrets = home / "credentials"
    secrets.mkdir(parents=True)
    (secrets / "kafka-ca").write_bytes(authority.path.read_bytes())
    (secrets / "kafka-password").write_text(PASSWORDS[f"tidegate-{role}"])
    section = settings["relay"]
    section["kafka"]["servers"] = [kafka.address("SASL_SSL")]
    section |= {**changes, "status": {"socket": str(home / "status.sock")}}
    (home / "relay.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", "from edge.cli import main; main()", "relay", "relay.yaml", "--role", role]
    with (home / "log").open("wb") as log, subprocess.Popen(
        [*command, "--log", "json"], cwd=home, stdout=log, stderr=log,
        env={**os.environ, "CREDENTIALS_DIRECTORY": str(secrets)},
    ) as process:  # fmt: skip
        try:
            yield home / "status.sock"
        finally:
            process.kill()


def is_up(socket: Path) -> bool:
    try:
        status = read_status(socket).relay
    except (OSError, ValueError):
        return False
    return status is not None and status.state == "up" and all(sink.state == "up" for sink in status.sinks)


def in_topic(kafka: Kafka, count: int) -> set[bytes]:
    """The values of records, as a worker reads them."""
    consumer = Consumer({**client_of(kafka, "tidegate-worker"), "group.id": "relay", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest"})  # fmt: skip
    try:
        consumer.subscribe(["tidegate.records"])
        return {message.value() or b"" for message in consumer.consume(count, 60)}
    finally:
        consumer.close()


def archived(folder: Path) -> set[bytes]:
    """The exact records in all archives of workers."""
    return {
        piece.data
        for archive in folder.glob("worker-*/archive")
        for file in record_files(archive)
        for piece in records_of(file)
        if piece.data is not None
    }


async def publish(port: int, plants: list[Plant]) -> None:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for plant in plants:
            for record in plant.records:
                await client.publish(plant.topic(record), record.data, qos=1)


def test_both_intakes_pass_on_everything_with_the_shipped_files(
    kafka: Kafka, authority: OpensslAuthority, tmp_path: Path
) -> None:
    plants = [Plant.start(tmp_path, f"line-{number}") for number in range(12)]
    sealed = [record.data for plant in plants for record in plant.records]
    with ExitStack() as stack:
        port = stack.enter_context(running_mosquitto(tmp_path, "topic readwrite #\n"))
        mqtt = {"host": "127.0.0.1", "port": port, "tls": "off"}
        sockets = [stack.enter_context(relay(f"intake-{number}", kafka, tmp_path, authority, mqtt=mqtt))
                   for number in (1, 2)]  # fmt: skip
        wait_until(lambda: all(map(is_up, sockets)), 60)
        asyncio.run(publish(port, plants))
        found = in_topic(kafka, 2 * len(sealed))

    assert found == set(sealed)


# What an account may


def client_of(kafka: Kafka, account: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": kafka.address("SASL_PLAINTEXT"), "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": account, "sasl.password": PASSWORDS[account],
        "log_level": 0,
    }  # fmt: skip


def write(kafka: Kafka, account: str, topic: str, *, ahead_s: float = 0) -> KafkaError | None:
    # A producer with a number of its own, as ours are, may hear of that before it hears of the topic.
    producer = Producer({**client_of(kafka, account), "acks": "all", "message.timeout.ms": 20_000})
    errors: list[KafkaError | None] = []
    producer.produce(f"tidegate.{topic}", b"value", b"key", timestamp=round((time.time() + ahead_s) * 1000),
                     on_delivery=lambda error, _: errors.append(error))  # fmt: skip
    producer.flush(30)
    return errors[0]


def read(kafka: Kafka, account: str, topic: str, group: str) -> KafkaError | None:
    """What a member of a group meets first."""
    consumer = Consumer({**client_of(kafka, account), "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "enable.partition.eof": True})  # fmt: skip
    try:
        consumer.subscribe([f"tidegate.{topic}"])
        message = consumer.poll(30)
        assert message is not None
        error = message.error()
        return None if error is None or error.code() == KafkaError._PARTITION_EOF else error
    except KafkaException as error:
        found: KafkaError = error.args[0]
        return found
    finally:
        consumer.close()


def test_a_worker_keeps_its_chains_in_their_topic_with_its_account(kafka: Kafka) -> None:
    password = PASSWORDS["tidegate-worker"]
    access = KafkaAccess(servers=(kafka.address("SASL_PLAINTEXT"),), client_id="worker-1", mechanism="SCRAM-SHA-512",
                         account="tidegate-worker", password=lambda: password)  # fmt: skip
    table = Table(access, "tidegate.chains")
    rows = {partition: [(f"line-{partition}", b"chain"), ("gone", None)] for partition in range(1, 64)}

    for partition, some in rows.items():
        table.write(partition, some)

    assert {partition: table.read(partition) for partition in rows} == rows


def create(kafka: Kafka, account: str, topic: str) -> KafkaError | None:
    admin = AdminClient(client_of(kafka, account))
    return _refusal(next(iter(admin.create_topics([NewTopic(f"tidegate.{topic}", 1, 1)]).values())).result)


def delete(kafka: Kafka, account: str, topic: str) -> KafkaError | None:
    admin = AdminClient(client_of(kafka, account))
    return _refusal(next(iter(admin.delete_topics([f"tidegate.{topic}"]).values())).result)


def _refusal(result: Callable[[float], Any]) -> KafkaError | None:
    try:
        result(30)
    except KafkaException as error:
        found: KafkaError = error.args[0]
        return found
    return None


Attempt = Callable[..., KafkaError | None]


@pytest.mark.parametrize(
    ("account", "attempt", "words"),
    [
        ("tidegate-intake", write, ["records"]),
        ("tidegate-worker", read, ["records", "relay"]),
        ("tidegate-worker", write, ["values"]),
        ("tidegate-worker", write, ["events"]),
        ("tidegate-worker", write, ["chains"]),
        ("tidegate-worker", read, ["chains", "relay"]),
        ("tidegate-consumer", read, ["values", "tidegate-consumer"]),
        ("tidegate-consumer", read, ["events", "tidegate-consumer-of-lab"]),
    ],
)
def test_an_account_may_do_what_it_needs(kafka: Kafka, account: str, attempt: Attempt, words: list[str]) -> None:
    assert attempt(kafka, account, *words) is None


@pytest.mark.parametrize(
    ("account", "attempt", "words"),
    [
        ("tidegate-intake", read, ["records", "relay"]),
        ("tidegate-intake", write, ["values"]),
        ("tidegate-intake", write, ["chains"]),
        ("tidegate-worker", write, ["records"]),
        ("tidegate-worker", read, ["records", "other"]),
        ("tidegate-worker", read, ["values", "relay"]),
        ("tidegate-consumer", read, ["records", "tidegate-consumer"]),
        ("tidegate-consumer", read, ["chains", "tidegate-consumer"]),
        ("tidegate-consumer", read, ["values", "relay"]),
        ("tidegate-consumer", write, ["values"]),
        *((account, attempt, [topic]) for account in PASSWORDS
          for attempt, topic in ((create, "other"), (delete, "records"))),
    ],
)  # fmt: skip
def test_an_account_may_do_nothing_else(kafka: Kafka, account: str, attempt: Attempt, words: list[str]) -> None:
    error = attempt(kafka, account, *words)

    assert error is not None
    assert error.code() in DENIED


def test_a_clock_of_kafka_that_is_a_day_behind_stops_no_intake(kafka: Kafka) -> None:
    assert write(kafka, "tidegate-intake", "records", ahead_s=86_400) is None


# All of it, last: its workers stay in their group for a while


def test_intakes_and_workers_do_their_work_with_the_shipped_files(
    kafka: Kafka, authority: OpensslAuthority, tmp_path: Path
) -> None:
    """Without the database, so that what they may do at Kafka is all that they need."""
    plants = [Plant.start(tmp_path, f"line-{number}") for number in range(12)]
    for plant in plants:
        plant.scan(1)
    sealed = {record.data for plant in plants for record in plant.records}
    with ExitStack() as stack:
        port = stack.enter_context(running_mosquitto(tmp_path, "topic readwrite #\n"))
        mqtt = {"host": "127.0.0.1", "port": port, "tls": "off"}
        trust = [str(plant.trust) for plant in plants]
        sockets = [stack.enter_context(relay(f"intake-{number}", kafka, tmp_path, authority, mqtt=mqtt))
                   for number in (1, 2)]  # fmt: skip
        sockets += [stack.enter_context(relay(f"worker-{number}", kafka, tmp_path, authority, trust=trust, sinks={}))
                    for number in (1, 2)]  # fmt: skip
        wait_until(lambda: all(map(is_up, sockets)), 60)
        asyncio.run(publish(port, plants))
        wait_until(lambda: sealed <= archived(tmp_path), 60)

    assert archived(tmp_path) == sealed
