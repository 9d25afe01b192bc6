"""A worker: takes its share of the gateways from Kafka, one of a consumer group that share them all."""

# Theory of operation
#
# Kafka gives each worker some partitions of the topic of records, and with them the gateways whose names lead there. A
# worker claims a partition, adopts its gateways as their owner before left them, and reads on from the offset that was
# stored with them. Kafka's own offsets are not used.
#
# What is taken at once is verified, archived and synced, and then stored: values, chains and offset in one transaction.
# Whatever ends before that is taken again by whoever owns the partition then, and counts once.
#
# The record before the stored offset is read again first. Where it is another one, or not there, the topic lost records
# that a broker had acknowledged: the partition is read from its beginning, which changes nothing that is stored, and
# what is missing now is missed by the verifier.
#
# Where anything fails, the session ends, and the next one claims anew. A static member keeps its partitions meanwhile.

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import NoReturn, ParamSpec, TypeVar

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import ErrorCode, code_of
from edge.kafka.client import KafkaUnreachable
from edge.kafka.member import Member, MemberPlan, Taken
from edge.logs import get_logger
from edge.relay.archive import is_gateway_name
from edge.relay.intake import records_topic
from edge.relay.scale.shares import Share, Shares, SharesSession, StaleOwner
from edge.relay.scale.worker_store import WorkerStore
from edge.relay.sinks.feed import InArchive
from edge.relay.sinks.sink import SinkUnreachable
from edge.relay.source import Keeper, OpenStore, SourceStatus
from edge.relay.waiting import ReceivedMessage
from edge.tasks import end_if_cancelled

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_AT_ONCE, _WAIT_S = 1000, 0.2
_FOR_LONG = (ErrorCode.KAFKA_REFUSED, ErrorCode.KAFKA_TOPIC, ErrorCode.KAFKA_PARTITIONS)
_RETRY_LIMIT_NS = 30 * 10**9


@dataclass(slots=True)
class _Owned:
    """A share of ours, and its gateways; `is_to_compare`: the next record has to be the last one that was taken."""

    share: Share
    is_to_compare: bool
    gateways: set[str] = field(default_factory=set)


class Worker:
    """A source: see `edge.relay.source.Source`. Its records are acknowledged by storing how far they are taken.

    Attributes:
        behind: records in its partitions that were not taken yet.
    """

    def __init__(self, plan: MemberPlan, shares: Shares, clock: Clock) -> None:
        self._plan, self._shares, self._clock = plan, shares, clock
        self._owned: dict[int, _Owned] = {}
        self._thread = ThreadPoolExecutor(1, "kafka")
        self._backoff = Backoff(SystemRandom(), limit_ns=_RETRY_LIMIT_NS)
        self._connection = AsyncExitStack()
        self._session: SharesSession
        self.status = SourceStatus(plan.kafka.name)
        self.not_durable = self.behind = 0

    async def open(self, in_archive: InArchive, open_store: OpenStore) -> WorkerStore:
        """See `Source.open`."""
        store = await in_archive(open_store, WorkerStore)
        assert isinstance(store, WorkerStore)
        self._in_archive, self._store = in_archive, store
        return store

    def close(self) -> None:
        """See `Source.close`."""
        self._thread.shutdown(wait=False)

    async def run(self, keeper: Keeper) -> NoReturn:
        """See `Source.run`."""
        while True:
            try:
                await self._connect()
                async with self._member() as member:
                    while True:
                        await self._keep(await self._in_thread(member.take, _AT_ONCE, _WAIT_S), member, keeper)
                        self.behind = await self._in_thread(member.behind)
                        self.status.connected()
                        self._backoff.reset()
            except (KafkaUnreachable, SinkUnreachable, StaleOwner, OSError) as error:
                await self._rest(error)
            finally:
                await self._connection.aclose()

    async def _rest(self, error: Exception) -> None:
        code, reason = code_of(error), str(error)
        if isinstance(error, OSError):
            code, reason = ErrorCode.ARCHIVE_DISK, f"the archive cannot be written: {error.strerror or error}"
        delay_ns = self._backoff.next_ns(at_limit=code in _FOR_LONG)
        self.status.lost(reason, code, delay_ns / 1e9, is_refused=code in _FOR_LONG)
        end_if_cancelled()
        await asyncio.sleep(delay_ns / 1e9)

    async def _connect(self) -> None:
        """Connect to where shares are kept; what was connected before is left."""
        await self._connection.aclose()
        self._session = await self._connection.enter_async_context(self._shares.session())

    async def _connect_again(self, error: Exception) -> None:
        while True:
            await self._rest(error)
            try:
                await self._connect()
            except (KafkaUnreachable, SinkUnreachable) as next_error:
                error = next_error
            else:
                return

    # Shares

    @asynccontextmanager
    async def _member(self) -> AsyncIterator[Member]:
        loop = asyncio.get_running_loop()

        def assigned(partitions: list[int]) -> dict[int, int | None]:
            return asyncio.run_coroutine_threadsafe(self._claim(partitions), loop).result()

        def revoked(partitions: list[int]) -> None:
            asyncio.run_coroutine_threadsafe(self._release(partitions), loop).result()

        member = await self._in_thread(Member, self._plan, assigned, revoked)
        try:
            yield member
        finally:
            await self._in_thread(member.close)
            await self._release(list(self._owned))

    async def _claim(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Become the owner of partitions; returns where each is read on, with the record before that."""
        begin: dict[int, int | None] = {}
        for partition in partitions:
            claimed = await self._session.claim(partition)
            share = claimed.share
            carried: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
            for key, value in claimed.rows.items():
                carried[key.split("/", 1)[0]][key] = value
            for gateway, rows in carried.items():
                await self._in_archive(self._store.adopt, gateway, rows, self._clock.utc_ns())
            self._owned[partition] = _Owned(share, share.next_offset is not None, set(carried))
            begin[partition] = None if share.next_offset is None else share.next_offset - 1
        log.info("partitions taken over", partitions=sorted(begin), owned=len(self._owned))
        return begin

    async def _release(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if (owned := self._owned.pop(partition, None)) is not None:
                for gateway in owned.gateways:
                    await self._in_archive(self._store.release, gateway)

    # Records

    async def _keep(self, taken: Sequence[Taken], member: Member, keeper: Keeper) -> None:
        messages: list[ReceivedMessage] = []
        touched: defaultdict[int, set[str]] = defaultdict(set)
        self.not_durable = len(taken)
        for each in taken:
            owned = self._owned.get(each.partition)
            if owned is None or each.partition in member.lost:
                continue
            if owned.is_to_compare and not _is_last(owned.share, each):
                member.lost.add(each.partition)
            elif not owned.is_to_compare:
                messages.append(self._message(each, gateway := each.key.decode("utf-8", "replace")))
                touched[each.partition].add(gateway)
                owned.share.next_offset, owned.share.last_hash = each.offset + 1, hashlib.sha256(each.value).digest()
            owned.is_to_compare = False
        for partition in [*member.lost]:
            await self._begin_again(partition, member)
        if messages:
            await self._store_all(messages, touched, keeper)
        self.status.acknowledged += len(taken)
        self.not_durable = 0

    def _message(self, taken: Taken, gateway: str) -> ReceivedMessage:
        """As it came from the broker; of another gateway than its key says, it will be refused."""
        now_ns = self._clock.utc_ns()
        arrived_ns = now_ns if taken.created_ns is None else min(taken.created_ns, now_ns)
        return ReceivedMessage(f"{records_topic(gateway)}r/kafka", taken.value, arrived_ns)

    async def _store_all(
        self, messages: Sequence[ReceivedMessage], touched: Mapping[int, set[str]], keeper: Keeper
    ) -> None:
        owned = [self._owned[partition] for partition in touched]
        for each in owned:
            new = {name for name in touched[each.share.partition] - each.gateways if is_gateway_name(name)}
            for gateway in new:
                await self._in_archive(self._store.adopt, gateway, {}, self._clock.utc_ns())
            each.gateways |= new
        await keeper.keep(messages)
        names = {each.share.partition: touched[each.share.partition] & each.gateways for each in owned}
        parcel = await self._in_archive(self._store.parcel, [name for some in names.values() for name in some])
        rows = {partition: await self._in_archive(self._store.changed_rows, some) for partition, some in names.items()}
        while True:
            # To take it all again would put it into the archive once more, each time.
            try:
                await self._session.store(parcel, [each.share for each in owned], rows)
            except (KafkaUnreachable, SinkUnreachable) as error:
                await self._connect_again(error)
            else:
                return

    async def _begin_again(self, partition: int, member: Member) -> None:
        """The topic has not what was taken of it: take all that it has, of which the most is here already."""
        owned = self._owned[partition]
        log.error("records lost by Kafka; its partition is read from the beginning, and gateways send again what is "
                  "missing now", partition=partition, expected=owned.share.next_offset,
                  remedy="tidegate resend on each gateway of which records are missing",
                  code=ErrorCode.KAFKA_LOST_RECORDS.id)  # fmt: skip
        owned.is_to_compare = False
        await self._in_thread(member.rewind, partition)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))


def _is_last(share: Share, taken: Taken) -> bool:
    """Whether this is the record that was taken last of a share."""
    return taken.offset + 1 == share.next_offset and hashlib.sha256(taken.value).digest() == share.last_hash
