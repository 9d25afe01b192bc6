"""The stream: authentic values as messages of Kafka, for consumers that take them as they come."""

# Theory of operation
#
# A parcel becomes messages, and these are in all copies that the topics ask for before its mark is in a file beside the
# archive. What a crash leaves between the two comes again: no more than one parcel, from the same sources. The mark
# belongs to one Kafka and two topics, and at another Kafka the stream begins from the whole archive.
#
# The producer is idempotent: what it sends again by itself is there once, and a partition keeps the order. The key is
# the device, so that a device's values stay in order; places that fell are named in every partition, since a reader of
# one partition reads no other. A record that counts again is withdrawn first, and comes after: so a consumer that
# leaves out sources it has, and forgets places that are withdrawn, has what counts.

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import orjson

from edge.errors import ConfigError, ErrorCode
from edge.files import replace_file
from edge.kafka.client import KafkaAccess, KafkaUnreachable
from edge.kafka.messages import Producer, Sent
from edge.logs import get_logger
from edge.relay.sinks.sink import Parcel, Place, SinkUnreachable
from edge.relay.sinks.stream_messages import StreamMessages, withdrawn
from edge.seal import Malformed
from edge.tls import Certificate, in_use

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Where the stream is.

    Attributes:
        prefix: what the names of its topics begin with.
        mark: the file of the mark.
        timeout_s: how long Kafka may take for a message.
    """

    name: str
    access: KafkaAccess
    prefix: str
    mark: Path
    timeout_s: float = 30.0


class Stream:
    """The sink: see `edge.relay.sinks.sink.Sink`."""

    def __init__(self, plan: StreamPlan) -> None:
        self._plan = plan
        self.name = plan.name

    @property
    def address(self) -> str:
        """Where it is."""
        return self._plan.access.name

    def certificates(self) -> Sequence[Certificate]:
        """Ours; its client does not tell that of a broker."""
        return () if self._plan.access.tls is None else in_use(self._plan.access.tls)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[StreamSession]:
        """Connect, and see whether the topics are there. Raises SinkUnreachable."""
        thread = ThreadPoolExecutor(1, f"sink {self.name} messages")
        session: StreamSession | None = None
        try:
            session = await asyncio.get_running_loop().run_in_executor(thread, StreamSession, self._plan, thread)
            yield session
        finally:
            if session is not None:
                session.end()
            await asyncio.to_thread(thread.shutdown)


class StreamSession:
    """A connection to the topics: see `edge.relay.sinks.sink.SinkSession`. What blocks runs in its thread."""

    def __init__(self, plan: StreamPlan, thread: ThreadPoolExecutor) -> None:
        self._plan, self._thread = plan, thread
        self._values, self._events = f"{plan.prefix}values", f"{plan.prefix}events"
        self._messages = StreamMessages()
        with _failures():
            self._producer = Producer[Place | None](plan.access, timeout_s=plan.timeout_s)
            for topic in (self._values, self._events):
                self._producer.partitions(topic)
            self._where = [self._producer.cluster(), plan.prefix]
        where, mark = orjson.loads(plan.mark.read_bytes()) if plan.mark.exists() else (None, "")
        self.mark = mark if where == self._where else ""

    async def write(self, parcel: Parcel) -> int:
        """See `SinkSession.write`."""
        refused = await self._run(self._send, parcel)
        await self._run(self._keep, parcel.mark)
        self.mark = parcel.mark
        for place, reason in refused.items():
            log.error("record refused by a sink", sink=self._plan.name, gateway=place.gateway,
                      epoch=place.epoch.hex(), seq=place.seq, reason=reason)  # fmt: skip
        return len(refused)

    def end(self) -> None:
        """Send nothing more: what no mark says comes again."""
        self._producer.end()
        self._thread.submit(self._producer.close)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))

    def _keep(self, mark: str) -> None:
        try:
            replace_file(self._plan.mark, orjson.dumps([self._where, mark]), 0o640)
        except OSError as error:
            raise SinkUnreachable(f"{self._plan.mark}: {error.strerror or error}") from error

    def _send(self, parcel: Parcel) -> dict[Place, str]:
        """Have Kafka take a parcel; gives the records that are refused for good, and why. Raises SinkUnreachable."""
        refused: dict[Place, str] = {}
        with _failures():
            for key, value in withdrawn(parcel):
                for topic in (self._values, self._events):
                    for partition in self._producer.partitions(topic):
                        self._producer.send(Sent(topic, key, value, None, partition))
            for record in parcel.records:
                try:
                    for is_values, key, value in self._messages.of(record):
                        topic = self._values if is_values else self._events
                        self._producer.send(Sent(topic, key, value, record.place))
                except Malformed as error:
                    refused[record.place] = str(error)
            for sent, why, is_refused in self._producer.flush():
                if sent.about is None or not is_refused:
                    raise why
                refused[sent.about] = str(why)
        return refused


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever keeps Kafka from taking something. Raises SinkUnreachable."""
    try:
        yield
    except ConfigError as error:  # A file changed since the start.
        raise SinkUnreachable(str(error), is_for_long=True) from error
    except KafkaUnreachable as error:
        is_for_long = error.code is not ErrorCode.KAFKA_UNREACHABLE
        hint = "" if is_for_long else " (a broker whose disk is full ends)"
        raise SinkUnreachable(f"{error}{hint}", is_for_long=is_for_long) from error
