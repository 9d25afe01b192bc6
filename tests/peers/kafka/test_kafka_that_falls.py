"""The broker of the other tests, where it is ended in all the ways that they need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.kafka import Kafka, running_kafka

QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 200}


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with running_kafka() as broker:
        yield broker


def send(kafka: Kafka, topic: str, *values: bytes) -> list[int]:
    """The offsets that the broker acknowledged; each value is a batch."""
    producer, offsets = Producer({"bootstrap.servers": kafka.address(), "acks": "all", **QUIET}), []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, message: offsets.append(message.offset()))
        assert producer.flush(30) == 0
    return offsets


def read(kafka: Kafka, topic: str, count: int) -> list[tuple[int, bytes]]:
    """The first messages of partition 0, with their offsets."""
    consumer = Consumer({"bootstrap.servers": kafka.address(), "group.id": "any", **QUIET})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[tuple[int, bytes]] = []
        while len(found) < count:
            message = consumer.poll(30)
            assert message is not None, f"only {len(found)} messages"
            assert message.error() is None
            found.append((message.offset(), message.value()))
        return found
    finally:
        consumer.close()


def test_what_was_acknowledged_is_there_after_a_stop_and_after_a_kill(kafka: Kafka) -> None:
    kafka.create_topic("kept", partitions=64)
    assert len(kafka.admin().list_topics("kept", 30).topics["kept"].partitions) == 64
    first = Producer({"bootstrap.servers": kafka.address(), "acks": "all", **QUIET})
    first.produce("kept", b"1", partition=0)
    assert first.flush(30) == 0

    kafka.kill()
    kafka.start()
    first.produce("kept", b"2", partition=0)
    assert first.flush(30) == 0
    kafka.stop()
    kafka.start()

    assert read(kafka, "kept", 2) == [(0, b"1"), (1, b"2")]


def test_a_tail_that_was_lost_is_gone_and_its_numbers_are_given_again(kafka: Kafka) -> None:
    kafka.create_topic("truncated")
    assert send(kafka, "truncated", b"1", b"2", b"3", b"4") == [0, 1, 2, 3]

    kafka.kill()
    next_offset = kafka.lose_tail("truncated", keep=2)
    kafka.start()

    assert next_offset == 2
    assert send(kafka, "truncated", b"other") == [2]
    assert read(kafka, "truncated", 3) == [(0, b"1"), (1, b"2"), (2, b"other")]
