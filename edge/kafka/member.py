"""A member of a consumer group, of whose partitions somebody else keeps how far they are taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from edge.kafka.client import KafkaAccess, KafkaLink
from edge.kafka.producer import require_partitions

SESSION_S = 15
_LOOK_EVERY_S = 60.0
_LOST = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION)  # noqa: SLF001
_PASSING = (KafkaError._MAX_POLL_EXCEEDED, KafkaError._PARTITION_EOF, KafkaError._TRANSPORT,  # noqa: SLF001
            KafkaError._RESOLVE)  # fmt: skip # noqa: SLF001


class Taken(NamedTuple):
    """A message; `created_ns` is UTC at which its producer sent it, where the topic keeps that."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    created_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPlan:
    """A topic, and who shares it.

    Attributes:
        partitions: how many the topic has to have.
        name: of this member, which keeps its partitions through a restart of no more than 15 s.
    """

    kafka: KafkaAccess
    topic: str
    partitions: int
    group: str
    name: str


class Member:
    """Used in one thread, in which it calls back.

    Args:
        assigned: called with partitions that are now ours; returns from which offset on each is read, None for all.
        revoked: called with partitions that are ours no more.

    Raises:
        KafkaUnreachable: as all that it does.
    """

    def __init__(
        self, plan: MemberPlan, assigned: Callable[[list[int]], dict[int, int | None]],
        revoked: Callable[[list[int]], None],
    ) -> None:  # fmt: skip
        self._plan, self._link = plan, KafkaLink(plan.kafka)
        self._assigned, self._revoked = assigned, revoked
        self._failed: Exception | None = None
        self._look_at_s = 0.0
        self.lost: set[int] = set()
        self._consumer = Consumer(self._link.configuration(
            group_id=plan.group, group_instance_id=plan.name, partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=SESSION_S * 1000, heartbeat_interval_ms=SESSION_S * 1000 // 5,
            enable_auto_commit=False, enable_auto_offset_store=False, auto_offset_reset="error",
            queued_max_messages_kbytes=2**14,
        ))  # fmt: skip
        self._consumer.subscribe([plan.topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def take(self, count: int, wait_s: float) -> list[Taken]:
        """Up to so many messages, waiting for the first ones so long.

        Partitions whose next record is not there any more are in `lost` afterwards.
        """
        self._look()
        try:
            messages = self._consumer.consume(count, wait_s)
        except KafkaException as error:
            raise self._link.failure(error.args[0], self._plan.topic) from error
        if self._failed is not None:
            raise self._failed
        if self._link.is_down and not messages:
            raise self._link.failure(KafkaError(KafkaError._ALL_BROKERS_DOWN), self._plan.topic)  # noqa: SLF001
        self._link.is_down = False
        return [taken for message in messages if (taken := self._taken(message))]

    def rewind(self, partition: int) -> None:
        """Read a partition from its beginning."""
        self.lost.discard(partition)
        # What was fetched already is of the partition as it was.
        self._consumer.incremental_unassign([TopicPartition(self._plan.topic, partition)])
        self._consumer.incremental_assign([TopicPartition(self._plan.topic, partition, OFFSET_BEGINNING)])

    def behind(self) -> int:
        """How many messages are in our partitions and were not taken yet, as far as that is known."""
        found = 0
        for each in self._consumer.position(self._consumer.assignment()):
            _, end = self._consumer.get_watermark_offsets(each, cached=True)
            found += max(0, end - each.offset) if each.offset >= 0 else 0
        return found

    def close(self) -> None:
        """End it; its partitions stay its own for a while."""
        self._assigned = dict.fromkeys
        self._consumer.close()

    def _look(self) -> None:
        """See whether the topic is there, with the partitions that it had from the beginning."""
        if time.monotonic() >= self._look_at_s:
            require_partitions(self._consumer, self._link, self._plan.topic, self._plan.partitions)
            self._look_at_s = time.monotonic() + _LOOK_EVERY_S

    def _taken(self, message: Message) -> Taken | None:
        error = message.error()
        partition, offset = message.partition(), message.offset()
        if error is None and partition is not None and offset is not None:
            kind, created_ms = message.timestamp()
            created_ns = created_ms * 10**6 if kind == TIMESTAMP_CREATE_TIME else None
            return Taken(partition, offset, message.key() or b"", message.value() or b"", created_ns)
        if error is not None and error.code() in _LOST and partition is not None:
            self.lost.add(partition)
        elif error is not None and error.code() not in _PASSING:
            raise self._link.failure(error, self._plan.topic)
        return None

    def _assign(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        try:
            offsets = self._assigned([each.partition for each in partitions])
        except Exception as error:  # noqa: BLE001 - The library would swallow it; `take` raises it.
            self._failed = error
            return
        consumer.incremental_assign([
            TopicPartition(self._plan.topic, partition, OFFSET_BEGINNING if offset is None else offset)
            for partition, offset in offsets.items()
        ])  # fmt: skip

    def _revoke(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        numbers = [each.partition for each in partitions]
        self._revoked(numbers)
        self.lost.difference_update(numbers)
        consumer.incremental_unassign(list(partitions))
