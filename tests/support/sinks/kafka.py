"""The stream on a real Kafka, and what a consumer makes of it, for the conformance suite and its own tests."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from os import urandom
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from edge.kafka.client import KafkaAccess
from edge.relay.sinks.sink import Place, SinkRecord, SinkSession
from edge.relay.sinks.stream import Stream, StreamPlan
from edge.relay.sinks.stream_messages import Message, StreamMessages
from tests.support.kafka import Kafka, running_kafka

LIMIT = 20_000
"""Bytes of the largest message that the topics take."""
_numbers = count(1)
TOPICS = ("values", "events")


class Broker(NamedTuple):
    """A broker that any thread may start again; it ends with the thread that did, so there is one for that."""

    kafka: Kafka
    starts: ThreadPoolExecutor

    def restart(self) -> None:
        self.kafka.kill()
        self.starts.submit(self.kafka.start).result()


@contextmanager
def running_broker() -> Iterator[Broker]:
    with ThreadPoolExecutor(1) as starts, running_kafka() as kafka:
        yield Broker(kafka, starts)


class Got(NamedTuple):
    """A message as a consumer has it."""

    topic: str
    partition: int
    key: bytes
    said: dict[str, Any]


@dataclass
class KafkaSubject:
    """Two topics of a broker, for one test."""

    kafka: Kafka
    restart: Callable[[], None]
    plan: StreamPlan
    patch: pytest.MonkeyPatch
    partitions: int
    is_full: bool = False

    @classmethod
    def create(cls, broker: Broker, folder: Path, patch: pytest.MonkeyPatch, partitions: int = 3) -> KafkaSubject:
        kafka, prefix = broker.kafka, f"test-{next(_numbers)}."
        for topic in TOPICS:
            kafka.create_topic(f"{prefix}{topic}", partitions, max_message_bytes=str(LIMIT))
            admin = kafka.admin()
            while admin.list_topics(f"{prefix}{topic}", timeout=10).topics[f"{prefix}{topic}"].error:
                pass  # The broker hears of it a moment after the controller.
        access = KafkaAccess(servers=(kafka.address(),), client_id="relay")
        plan = StreamPlan(name="stream", access=access, prefix=prefix, mark=folder / "stream.mark", timeout_s=3)
        return cls(kafka, broker.restart, plan, patch, partitions)

    def sink(self, **changed: Any) -> Stream:
        return Stream(replace(self.plan, **changed))

    def kill(self, session: SinkSession) -> None:
        session._producer.end()  # type: ignore[attr-defined]

    def messages(self) -> list[Got]:
        """All that is in the topics, each partition in its order."""
        if self.is_full:
            self.bring_back()
        consumer = Consumer({"bootstrap.servers": self.kafka.address(), "group.id": "reader", "log_level": 0,
                             "enable.auto.commit": False})  # fmt: skip
        try:
            parts = [TopicPartition(self.plan.prefix + topic, number, 0)
                     for topic in TOPICS for number in range(self.partitions)]  # fmt: skip
            due = sum(_end(consumer, each) for each in parts)
            consumer.assign(parts)
            found: list[Got] = []
            while len(found) < due:
                for each in consumer.consume(min(due - len(found), 1000), timeout=10):
                    assert each.error() is None
                    topic, key, value, number = each.topic(), each.key(), each.value(), each.partition()
                    assert (topic, key, value, number).count(None) == 0
                    found.append(Got(str(topic).removeprefix(self.plan.prefix), int(number or 0), bytes(key or b""),
                                     orjson.loads(value or b"")))  # fmt: skip
            return found
        finally:
            consumer.close()

    async def content(self) -> dict[Place, str]:
        """What a consumer has of each partition that leaves out sources it had, and forgets what is withdrawn."""
        had: defaultdict[tuple[str, int], dict[tuple[str, str], str]] = defaultdict(dict)
        for topic, partition, _, said in await asyncio.to_thread(self.messages):
            mine = had[topic, partition]
            if said["kind"] != "withdrawn":
                mine[said["gateway"], said["src"].rsplit("/", 2)[0]] = ""
                continue
            for place in said["places"]:
                if mine.pop((said["gateway"], place), None) is not None and said["verdict"] != "AUTHENTIC":
                    mine[said["gateway"], place] = said["verdict"]
        places: dict[Place, str] = {}
        for (gateway, source), fallen in (each for mine in had.values() for each in mine.items()):
            epoch, seq = source.split("/")
            place = Place(gateway, bytes.fromhex(epoch), int(seq))
            assert place not in places
            places[place] = fallen
        return places

    def take_away(self) -> None:
        self.kafka.stop()

    def bring_back(self) -> None:
        self.restart()
        self.is_full = False

    def refuse(self, place: Place) -> None:
        """Make its messages larger than the topic takes, so that Kafka refuses them."""
        made = StreamMessages.of

        def larger(self: StreamMessages, record: SinkRecord) -> list[Message]:
            found = made(self, record)
            if record.place != place:
                return found
            return [
                message._replace(payload=message.payload + b" " + urandom(LIMIT).hex().encode()) for message in found
            ]

        self.patch.setattr(StreamMessages, "of", larger)

    def fill(self) -> None:
        """No byte more for the files of the broker, at which it ends."""
        subprocess.run(["prlimit", "--pid", str(self.kafka.process_id), "--fsize=0"], check=True)
        self.is_full = True

    def make_room(self) -> None:
        """A broker begins without that limit."""


def _end(consumer: Consumer, partition: TopicPartition) -> int:
    """How many messages a partition has; after a restart it takes a moment until the broker leads it."""
    until = time.monotonic() + 30
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=10)[1]
        except KafkaException:
            assert time.monotonic() < until
            time.sleep(0.1)
