"""A compacted topic as a table: the last value of each key of a partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from edge.kafka.client import KafkaAccess, KafkaLink

_ANSWER_S = 10.0
_FLUSH_S = 30.0


class Table:
    """Used in one thread. Raises KafkaUnreachable where Kafka does not answer, or refuses."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        self._topic, self._link = topic, KafkaLink(access)
        self._producer = Producer(self._link.configuration(
            enable_idempotence=True, acks="all", compression_type="lz4", linger_ms=0, message_max_bytes=2**24,
            delivery_timeout_ms=round(_FLUSH_S * 1000),
        ))  # fmt: skip
        self._reader: Consumer | None = None
        self._failed: KafkaError | None = None

    def read(self, partition: int) -> list[tuple[str, bytes | None]]:
        """All that is in a partition, in the order in which it was written; None where a key was removed."""
        # One for all partitions: to connect and to log in for each would make a takeover long.
        consumer = self._reader = self._reader or Consumer(self._link.configuration(
            group_id="unused", enable_auto_commit=False, auto_offset_reset="error", enable_partition_eof=True,
            fetch_wait_max_ms=10,
        ))  # fmt: skip
        try:
            where = TopicPartition(self._topic, partition, OFFSET_BEGINNING)
            consumer.get_watermark_offsets(where, _ANSWER_S)  # Says whether it is there.
            consumer.assign([where])
            rows = list(self._rest(consumer))
            consumer.unassign()
        except KafkaException as error:
            self._reader = None
            consumer.close()
            raise self._link.failure(error.args[0], self._topic) from error
        return rows

    def _rest(self, consumer: Consumer) -> Iterator[tuple[str, bytes | None]]:
        while True:
            message = consumer.poll(_ANSWER_S)
            error = message.error() if message is not None else KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001
            if error is None and message is not None:
                yield (message.key() or b"").decode(), message.value()
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                return
            elif error is not None and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # It joins none.
                raise KafkaException(error)

    def write(self, partition: int, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Write rows in this order, and wait until they are durable."""
        self._failed = None
        try:
            for key, value in rows:
                self._producer.produce(self._topic, value, key.encode(), partition, on_delivery=self._note)
        except KafkaException as error:
            raise self._link.failure(error.args[0], self._topic) from error
        waiting = self._producer.flush(_FLUSH_S + 1)
        if self._failed is None and waiting:
            self._failed = KafkaError(KafkaError._MSG_TIMED_OUT)  # noqa: SLF001
        if self._failed is not None:
            self._producer.purge()
            raise self._link.failure(self._failed, self._topic)

    def _note(self, error: KafkaError | None, _message: object) -> None:
        self._failed = self._failed or error
