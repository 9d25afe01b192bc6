"""A producer that answers for every message: in the topic, on all copies that the topic asks for, or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from edge.errors import ConfigError, ErrorCode
from edge.kafka.client import KafkaAccess, KafkaLink, KafkaUnreachable

_LOOK_EVERY_S = 60.0
_ANSWER_S = 5.0
_LIMITS = {
    # What is not taken by then is ours again, so that the reason is known; what passes is tried anew.
    "message_timeout_ms": 10_000, "retries": 3, "retry_backoff_ms": 200, "topic_metadata_propagation_max_ms": 2000,
}  # fmt: skip


class Outgoing(NamedTuple):
    """A message; `created_ms` is the UTC that it carries."""

    key: bytes
    value: bytes
    created_ms: int


def require_partitions(client: Producer | Consumer, link: KafkaLink, topic: str, partitions: int) -> None:
    """See whether a topic is there, with so many partitions. Raises KafkaUnreachable."""
    try:
        found = client.list_topics(topic, timeout=_ANSWER_S).topics[topic]
    except KafkaException as failed:
        client.poll(0)  # Brings the reason, which is said of the connection.
        error: KafkaError = failed.args[0]
        is_away = error.code() == KafkaError._TRANSPORT  # noqa: SLF001 - Its name.
        raise link.failure(KafkaError(KafkaError._TIMED_OUT) if is_away else error, topic) from failed  # noqa: SLF001
    if found.error is not None:
        raise link.failure(found.error, topic)
    if len(found.partitions) != partitions:
        text = (
            f"Kafka's topic {topic} has {len(found.partitions)} partitions, and relay.kafka.partitions says "
            f"{partitions}: correct the setting, or make a topic with so many"
        )
        raise KafkaUnreachable(text, code=ErrorCode.KAFKA_PARTITIONS)


class Sender:
    """Used in one thread, except `close`."""

    def __init__(self, access: KafkaAccess, topic: str, partitions: int) -> None:
        self._access, self._topic, self._partitions = access, topic, partitions
        self._connected: tuple[Producer, KafkaLink] | None = None
        self._look_at_s = 0.0
        self._is_closed = threading.Event()

    def look(self) -> KafkaUnreachable | None:
        """See, at most once a minute where all is well, whether the topic is as it has to be; returns why not."""
        try:
            self._connect()
        except KafkaUnreachable as error:
            self._forget()
            return error
        except ConfigError as error:
            return KafkaUnreachable(str(error), code=ErrorCode.KAFKA_REFUSED)
        return None

    def _forget(self) -> None:
        """Let the next one read certificates and password anew."""
        self._connected, self._look_at_s = None, 0.0

    def send(self, messages: Sequence[Outgoing]) -> tuple[list[Outgoing], KafkaUnreachable | None]:
        """Send messages, and wait for the answer to each; returns those that may not be in the topic, and why.

        Of what is sent again some may be there twice.
        """
        if (error := self.look()) is not None:
            return list(messages), error
        assert self._connected is not None
        producer, link = self._connected
        answers: dict[int, KafkaError | None] = {}
        for number, message in enumerate(messages):
            producer.produce(self._topic, message.value, message.key, timestamp=message.created_ms,
                             on_delivery=partial(_note, answers, number))  # fmt: skip
        while len(answers) < len(messages):
            if self._is_closed.is_set():
                producer.purge()
            producer.poll(0.1)
        failures = {number: each for number, each in answers.items() if each is not None}
        if not failures:
            return [], None
        self._forget()
        return [messages[number] for number in sorted(failures)], link.failure(failures[min(failures)], self._topic)

    def close(self) -> None:
        """End the wait for answers: what has none counts as not sent."""
        self._is_closed.set()

    def _connect(self) -> None:
        if self._connected is None:
            link = KafkaLink(self._access)
            # All of a gateway's messages have to be in one partition, whatever library hashes its name.
            settings = link.configuration(enable_idempotence=True, acks="all", partitioner="murmur2_random", **_LIMITS)
            self._connected = Producer(settings), link
        producer, link = self._connected
        producer.poll(0)
        if time.monotonic() >= self._look_at_s:
            require_partitions(producer, link, self._topic, self._partitions)
            self._look_at_s = time.monotonic() + _LOOK_EVERY_S


def _note(answers: dict[int, KafkaError | None], number: int, error: KafkaError | None, _: Any) -> None:
    answers[number] = error
