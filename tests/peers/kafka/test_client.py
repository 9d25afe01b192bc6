"""Our settings and sentences against a real broker: plain, with certificates, with accounts, and each refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from edge.codes import ErrorCode
from edge.errors import ConfigError
from edge.kafka.client import KafkaAccess, KafkaLink, KafkaUnreachable
from edge.tls import TlsFiles
from tests.support.authority import OpensslAuthority
from tests.support.kafka import Kafka, KafkaSetup, running_kafka
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    return OpensslAuthority(tmp_path_factory.mktemp("authority") / "plant")


@pytest.fixture(scope="module")
def kafka(authority: OpensslAuthority) -> Iterator[Kafka]:
    certificate, key = authority.issue("broker", use="serverAuth")
    authority.issue("worker")
    setup = KafkaSetup(certificate=certificate, key=key, ca=authority.path, accounts={"worker": "secret"}, lists=True)
    with running_kafka(setup) as broker:
        for topic in ("records", "small", "forbidden"):
            broker.create_topic(topic, max_message_bytes="1000" if topic == "small" else "1000000")
        kinds = [(ResourceType.TOPIC, name) for name in ("records", "small", "absent")] + [
            (ResourceType.GROUP, "workers")
        ]
        broker.allow([
            AclBinding(kind, name, ResourcePatternType.LITERAL, "User:worker", "*", AclOperation.ALL,
                       AclPermissionType.ALLOW)
            for kind, name in kinds
        ])  # fmt: skip
        yield broker


@pytest.fixture
def files(authority: OpensslAuthority) -> TlsFiles:
    folder = authority.folder
    return TlsFiles(ca=authority.path, certificate=folder / "worker.pem", key=folder / "worker.key")


def access(kafka: Kafka, listener: str = "SSL", **more: Any) -> KafkaAccess:
    return KafkaAccess(**{"servers": (kafka.address(listener),), "client_id": "relay", **more})


def login(password: str = "secret", mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
    return {"mechanism": mechanism, "account": "worker", "password": lambda: password}


def send(to: KafkaAccess, topic: str = "records", value: bytes = b"whole") -> None:
    """Raises what kept the broker from taking it."""
    link = KafkaLink(to)
    producer = Producer(link.configuration(acks="all", message_timeout_ms=6000, topic_metadata_propagation_max_ms=2000))
    errors: list[KafkaError | None] = []
    producer.produce(topic, value, on_delivery=lambda error, message: errors.append(error))
    assert producer.flush(30) == 0
    if errors[0] is not None:
        raise link.failure(errors[0], topic)


def refusal(to: KafkaAccess, **message: Any) -> tuple[str, str]:
    with pytest.raises(KafkaUnreachable) as caught:
        send(to, **message)
    assert caught.value.code is not None
    return caught.value.code.id, str(caught.value).removeprefix(f"{to.name}: ")


@pytest.mark.parametrize("way", ["plain", "certificate", "account", "account without TLS"])
def test_a_message_goes_out_and_comes_in(kafka: Kafka, files: TlsFiles, way: str, capfd: Any) -> None:
    trust = TlsFiles(ca=files.ca)
    to = {
        "plain": access(kafka, "PLAINTEXT"),
        "certificate": access(kafka, "SSL", tls=files),
        "account": access(kafka, "SASL_SSL", tls=trust, **login()),
        "account without TLS": access(kafka, "SASL_PLAINTEXT", **login(mechanism="PLAIN")),
    }[way]
    send(to, value=way.encode())
    consumer = Consumer(KafkaLink(to).configuration(group_id="workers", auto_offset_reset="earliest"))
    try:
        consumer.subscribe(["records"])
        found = None
        while found != way.encode():
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            found = message.value()
    finally:
        consumer.close()

    assert capfd.readouterr().err == ""


def test_each_refusal_is_a_sentence_with_what_helps(
    kafka: Kafka, files: TlsFiles, authority: OpensslAuthority, capfd: Any
) -> None:
    trust = TlsFiles(ca=files.ca)
    other = OpensslAuthority(authority.folder.parent / "other", "other")
    mine = access(kafka, tls=files)
    away = access(kafka, servers=(f"127.0.0.1:{free_port()}",))

    assert refusal(away) == ("TG-R09", "it cannot be reached: Connection refused; is the port right, and does it run?")
    assert refusal(access(kafka, "PLAINTEXT", tls=files)) == ("TG-R09", "it does not speak TLS on this port")
    assert refusal(access(kafka, tls=TlsFiles(ca=other.path)))[1].startswith("its certificate is not trusted by our CA")
    assert refusal(access(kafka, tls=trust)) == (
        "TG-R10", "it asks for a client certificate; set tls.certificate and tls.key")  # fmt: skip
    assert refusal(access(kafka, "SASL_SSL", tls=trust, **login("wrong"))) == (
        "TG-R10", "it does not let account worker in; correct account and password, here or there")  # fmt: skip
    assert refusal(access(kafka, "SASL_SSL", tls=trust, **login(mechanism="SCRAM-SHA-256"))) == (
        "TG-R10", "it does not let account worker in; it offers SCRAM-SHA-512,PLAIN")  # fmt: skip
    assert refusal(mine, topic="forbidden") == (
        "TG-R10", "our account may not use forbidden; add it to the access lists")  # fmt: skip
    assert refusal(mine, topic="small", value=bytes(5000)) == (
        "TG-R13", "topic small takes no message so large; raise max.message.bytes")  # fmt: skip
    assert refusal(mine, topic="absent") == ("TG-R11", "there is no topic absent; create it")
    assert capfd.readouterr().err == ""


def test_a_partition_that_is_not_there_is_a_sentence(kafka: Kafka, files: TlsFiles) -> None:
    link = KafkaLink(access(kafka, tls=files))
    producer = Producer(link.configuration())
    producer.list_topics("records", 30)
    errors: list[KafkaError | None] = []

    try:
        producer.produce("records", b"x", partition=63, on_delivery=lambda error, message: errors.append(error))
        assert producer.flush(30) == 0
    except KafkaException as error:
        errors.append(error.args[0])

    assert errors[0] is not None
    assert link.failure(errors[0], "records").code is ErrorCode.KAFKA_PARTITIONS


def test_a_file_that_is_no_certificate_is_said_before_a_client_is_made(kafka: Kafka, files: TlsFiles) -> None:
    with pytest.raises(ConfigError, match=r"CA file .* cannot be used: it is not PEM"):
        KafkaLink(access(kafka, tls=TlsFiles(ca=files.key or files.ca))).configuration()
