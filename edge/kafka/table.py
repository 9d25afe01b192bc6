"""A compacted topic as a table: the last value of each key of a partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from edge.kafka.client import KafkaAccess, KafkaLink
from edge.kafka.messages import Producer, Sent

_ANSWER_S = 10.0
_WRITE_S = 30.0


class Table:
    """Used in one thread. Raises KafkaUnreachable where Kafka does not answer, or refuses."""

    def __init__(self, access: KafkaAccess, topic: str) -> None:
        self._topic, self._link = topic, KafkaLink(access)
        self._producer = Producer[None](access, timeout_s=_WRITE_S)
        self._reader: Consumer | None = None

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
        for key, value in rows:
            self._producer.send(Sent(self._topic, key.encode(), value, None, partition))
        for failed in self._producer.flush():
            raise failed.error
