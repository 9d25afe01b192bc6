"""Messages to topics of Kafka: in order within a partition, and what was not taken with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from edge.kafka.client import KafkaAccess, KafkaLink, KafkaUnreachable

T = TypeVar("T")

_CONNECT_S, _STEP_S = 10.0, 0.1
_MESSAGE_BYTES = 50_000_000  # For a larger one a broker ends the connection, instead of refusing it.
_QUEUE_KIB = 64 * 1024
_REFUSED = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG}


class Sent(NamedTuple, Generic[T]):
    """A message; `about` is for who sends it, and a partition below 0 the one of its key; no value removes the key."""

    topic: str
    key: bytes
    value: bytes | None
    about: T
    partition: int = -1


class Failed(NamedTuple, Generic[T]):
    """A message that was not taken; `is_refused`: nor would it be another time."""

    sent: Sent[T]
    error: KafkaUnreachable
    is_refused: bool


class Producer(Generic[T]):
    """Sends messages, each of which is in all copies that its topic asks for once `flush` has not given it back.

    It blocks, and belongs to one thread; only `end` is for any. Reads files.

    Args:
        timeout_s: how long the brokers may take for a message.
    """

    def __init__(self, access: KafkaAccess, *, timeout_s: float) -> None:
        self._link = KafkaLink(access)
        self._failed: list[tuple[Sent[T], KafkaError]] = []
        self._is_ended = False
        self._producer = confluent_kafka.Producer(self._link.configuration(
            enable_idempotence=True, partitioner="murmur2_random", compression_type="lz4",
            message_timeout_ms=round(timeout_s * 1000), message_max_bytes=_MESSAGE_BYTES,
            queue_buffering_max_kbytes=_QUEUE_KIB, delivery_report_only_error=True,
        ))  # fmt: skip

    def cluster(self) -> str:
        """What no other Kafka is called. Raises KafkaUnreachable."""
        try:
            return self._producer.cluster_id(_CONNECT_S)
        except KafkaException as error:
            raise self._link.failure(error.args[0]) from error

    def partitions(self, topic: str) -> Sequence[int]:
        """Those of a topic. Raises KafkaUnreachable."""
        step_s = 0.02
        while True:
            try:
                found = self._producer.list_topics(topic, timeout=step_s).topics[topic]
            except KafkaException as error:
                self._producer.poll(0)
                # A refused connection is known at once; else it waits longer each time, since an answer may be slow.
                if self._link.is_down or self._is_ended or step_s > _CONNECT_S:
                    raise self._link.failure(error.args[0], topic) from error
                step_s *= 2
                continue
            if found.error is not None:
                raise self._link.failure(found.error, topic)
            return [*found.partitions]

    def send(self, sent: Sent[T]) -> None:
        """Have a message sent, in the background. Raises KafkaUnreachable after `end`."""
        topic, key, value, _, partition = sent
        while True:
            self._check_ended()
            try:
                self._producer.produce(topic, value, key, partition, partial(self._note_failed, sent))
            except BufferError:
                self._producer.poll(_STEP_S)
                continue
            except KafkaException as error:
                self._note_failed(sent, error.args[0])
            return

    def flush(self) -> list[Failed[T]]:
        """Wait until the brokers have answered for all that was sent; gives what they did not take.

        They refuse a batch whole for one message that is too large, so each of its messages is sent again by itself.

        Raises:
            KafkaUnreachable: `end` was called meanwhile.
        """
        failed = self._answered()
        if not any(error.code() not in _REFUSED for _, error in failed):
            again, failed = failed, []
            for sent, _ in again:
                self.send(sent)
                failed += self._answered()
        return [Failed(sent, self._link.failure(error, sent.topic), error.code() in _REFUSED) for sent, error in failed]

    def end(self) -> None:
        """Have whatever blocks end soon."""
        self._is_ended = True

    def close(self) -> None:
        """Forget what is not sent."""
        self._producer.purge()

    def _answered(self) -> list[tuple[Sent[T], KafkaError]]:
        while self._producer.flush(_STEP_S):
            self._check_ended()
        failed, self._failed = self._failed, []
        return failed

    def _note_failed(self, sent: Sent[T], error: KafkaError, _: object = None) -> None:
        self._failed.append((sent, error))

    def _check_ended(self) -> None:
        if self._is_ended:
            raise KafkaUnreachable("the session has ended")
