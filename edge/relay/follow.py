"""A view follows the archive: authentic records that are archived are shown, at the pace of the view's broker.

It holds locations, not records: a record is read from the archive again when its turn comes. The archive never waits
for a view: one that is too far behind shows only the newest value of each tag, and counts what it leaves out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby
from secrets import SystemRandom
from threading import Lock
from typing import Literal, NamedTuple, NoReturn, TypeVar

from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.logs import get_logger
from edge.model import Catalogue, SampleBlock
from edge.mqtt.access import BrokerAccess
from edge.relay.archive import RecordLocation
from edge.relay.connection import Reconnecting
from edge.relay.publish import ViewConnection, connect_view
from edge.relay.shapes import BlockOrigin, Messages, ShapeName
from edge.relay.unified_namespace import UnifiedNamespace, context_origin, origin
from edge.seal import (
    Calibrations,
    CataloguePart,
    Context,
    Data,
    Garbage,
    Malformed,
    RecordType,
    Unknown,
    decode_frame,
    join_catalogue,
    parse,
)
from edge.tasks import task_group

log = get_logger(__name__)

T = TypeVar("T")

SHOWN_TYPES = (RecordType.DATA, RecordType.CATALOG, RecordType.CONTEXT)

UNFINISHED_LIMIT = 100_000
"""The most records that are due or wait for their catalogue."""

_CATALOGUES_LIMIT = 1000
_BYTES_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """Where the unified namespace is published, and how.

    Attributes:
        waiting_records: most records that wait to be shown; more, and only the newest value of each tag is.
    """

    broker: BrokerAccess
    prefix: str = ""
    shape: ShapeName = "tag"
    qos: Literal[0, 1] = 1
    is_retained: bool = True
    waiting_records: int = 10_000


class ArchivedRecord(NamedTuple):
    """An authentic record to show."""

    location: RecordLocation
    arrived_ns: int


class ViewState(NamedTuple):
    """The state of a view: locations of catalogues and calibrations, records not shown yet, and UTC of the value of
    each topic."""

    catalogues: list[RecordLocation]
    unfinished: list[ArchivedRecord]
    shown_ns: dict[str, int]


class Follower:
    """Records still to be shown, and records that wait for their catalogue; both bounded.

    The archive's thread adds, the view's thread shows.

    Args:
        view: what is shown.
        read: reads a record from the archive.
        waiting_records: most records that are due; `catch_up` is for the view's thread to call when there are more.
        limit: where even that is too slow, the most records that are due or wait for their catalogue.

    Attributes:
        dropped: values never shown because a newer one of their tag replaced them while the view was behind.
        skipped: records never shown because they cannot be read, their catalogue never came, or there were too many.
    """

    def __init__(
        self,
        view: UnifiedNamespace,
        read: Callable[[RecordLocation], bytes],
        waiting_records: int = 10_000,
        limit: int = UNFINISHED_LIMIT,
    ) -> None:
        self._view = view
        self._read = read
        self._waiting_records, self._limit = waiting_records, limit
        self._due: deque[ArchivedRecord] = deque()
        self._without_catalogue: dict[bytes, deque[ArchivedRecord]] = {}
        self._catalogues = Catalogues()
        self._newest: dict[
            tuple[str, bytes], tuple[int, bytes]
        ] = {}  # Of each chain, the seq and digest of a catalogue.
        self._lock = Lock()
        self._pending_since_ns: int | None = None
        self.dropped = self.skipped = 0

    def add(self, records: Iterable[ArchivedRecord]) -> None:
        """Records to show after those added before; over the limit the oldest are skipped."""
        with self._lock:
            self._due.extend(records)
            while len(self._due) > self._limit:
                self._due.popleft()
                self.skipped += 1

    def messages(self) -> list[Messages]:
        """The next messages: of the values that wait, and then of the records that are due."""
        found: list[Messages] = []
        size_bytes = 0
        while size_bytes < _BYTES_AT_ONCE:
            with self._lock:
                if self._view.has_pending:
                    new = list(self._view.pending_messages())
                elif self._due:
                    self._pending_since_ns = None
                    new = [*self._shown(self._due.popleft(), self._view.messages)]
                else:
                    self._pending_since_ns = None
                    break
            found += new
            size_bytes += sum(sum(map(len, each.payloads)) for each in new)
        return _joined(found)

    def catch_up(self) -> None:
        """Take the records that are due: of their values only the newest of each tag waits to be shown."""
        for _ in range(len(self._due)):
            with self._lock:
                if not self._due:
                    break
                record = self._due.popleft()
                if self._pending_since_ns is None:
                    self._pending_since_ns = record.arrived_ns
                self.dropped += sum(self._shown(record, lambda *shown: [self._view.take(*shown)]))

    def show_all_again(self) -> None:
        """Show everything again that was shown."""
        with self._lock:
            self._view.take_all()

    @property
    def has_more(self) -> bool:
        """Whether a record is due, or a value waits."""
        return bool(self._due) or self._view.has_pending

    @property
    def is_behind(self) -> bool:
        """Whether more records are due than may wait."""
        return len(self._due) > self._waiting_records

    @property
    def unfinished(self) -> int:
        """Number of records that are due or wait for their catalogue."""
        return len(self._due) + self._count_without_catalogue()

    @property
    def oldest_ns(self) -> int | None:
        """UTC at which the first of them arrived, 0 where that was before the start; None where there is none."""
        with self._lock:
            queues = [*self._without_catalogue.values(), self._due]
            oldest = [queue[0].arrived_ns for queue in queues if queue]
            return min(oldest if self._pending_since_ns is None else [*oldest, self._pending_since_ns], default=None)

    def state(self) -> ViewState:
        """What to restore after the next start."""
        with self._lock:
            pending = {
                ArchivedRecord(origin.location, origin.arrived_ns)
                for origin in self._view.pending_origins()
                if origin.location is not None
            }
            unfinished = [item for items in self._without_catalogue.values() for item in items] + list(self._due)
            known = [*self._catalogues.locations(), *self._view.learned()]
            return ViewState(known, [*pending, *unfinished], self._view.shown_ns())

    def forget(self, gateway: str, day: str) -> None:
        """The file of a day was removed: catalogues that are known stay known, and where they lay is forgotten."""
        with self._lock:
            self._catalogues.forget(gateway, day)
            self._view.forget(gateway, day)

    def restore(self, state: ViewState) -> None:
        """Continue from a saved state; what was shown is known to the view."""
        self.add(ArchivedRecord(location, 0) for location in state.catalogues)
        self.add(state.unfinished)

    def _count_without_catalogue(self) -> int:
        return sum(map(len, list(self._without_catalogue.values())))

    def _shown(self, record: ArchivedRecord, show: Callable[..., Iterable[T]]) -> Iterator[T]:
        """What `show` gives of each sample block of a record, or of its context, as the view takes them."""
        try:
            frame = parse(self._read(record.location))
            unknown, name = Unknown(), f"{frame.epoch.hex()}/{frame.seq}"
            payload = decode_frame(frame, unknown)
            if isinstance(payload, Calibrations):
                self._view.learn(payload, record.location)
            elif isinstance(payload, CataloguePart):
                if self._catalogues.add(payload, record.location):
                    self._due.extendleft(reversed(self._without_catalogue.pop(payload.digest, ())))
                self._note_newest((record.location.gateway, frame.epoch), frame.seq, payload.digest)
            elif isinstance(payload, Data) and payload.wire_blocks:
                for block in self._blocks_of(payload, name, record, bool(unknown.words)):
                    yield from show(*block)
            elif isinstance(payload, Context):
                chain = record.location.gateway, frame.epoch
                _, digest = self._newest.get(chain, (0, b""))
                if (catalogue := self._catalogues.get(digest)) is None:  # It says below which path the unit is.
                    self._wait_for_catalogue(_key(chain), record)
                else:
                    where = context_origin(name, payload, record.arrived_ns, record.location)
                    yield from show(digest, catalogue, payload, where)
        except (OSError, Garbage, Malformed) as error:
            # The file was moved away, or the content is not in the format: the archive is for `verify` to judge.
            log.warning("record cannot be shown", place=record.location, reason=str(error))
            self.skipped += 1

    def _note_newest(self, chain: tuple[str, bytes], seq: int, digest: bytes) -> None:
        """A chain goes on with a catalogue from this seq on; contexts that waited for one are due once it is whole."""
        if seq >= self._newest.get(chain, (0, b""))[0]:
            self._newest.pop(chain, None)
            self._newest[chain] = seq, digest
            if len(self._newest) > _CATALOGUES_LIMIT:
                del self._newest[next(iter(self._newest))]
        if self._catalogues.get(self._newest[chain][1]) is not None:
            self._due.extendleft(reversed(self._without_catalogue.pop(_key(chain), ())))

    def _blocks_of(
        self, data: Data, name: str, record: ArchivedRecord, has_unknown: bool
    ) -> Iterator[tuple[bytes, Catalogue, SampleBlock, BlockOrigin]]:
        catalogue = self._catalogues.get(data.catalogue)
        if catalogue is None:
            self._wait_for_catalogue(data.catalogue, record)
            return
        for number, block in zip(data.numbers, data.blocks(catalogue), strict=True):
            where = origin(
                name, number, block, data.utc_ns, data.boot_ns, data.time, record.arrived_ns,
                has_unknown=has_unknown, location=record.location,
            )  # fmt: skip
            yield data.catalogue, catalogue, block, where

    def _wait_for_catalogue(self, digest: bytes, record: ArchivedRecord) -> None:
        self._without_catalogue.setdefault(digest, deque()).append(record)
        if self._count_without_catalogue() <= self._limit:
            return
        oldest = next(iter(self._without_catalogue))
        self._without_catalogue[oldest].popleft()
        self.skipped += 1
        if not self._without_catalogue[oldest]:
            del self._without_catalogue[oldest]


def _key(chain: tuple[str, bytes]) -> bytes:
    """What a context waits for: any catalogue of its chain. A digest is shorter."""
    return b"/".join((chain[1], chain[0].encode()))


def _joined(messages: Iterable[Messages]) -> list[Messages]:
    """The same in as few columns as there can be."""
    found = []
    for is_retained, run in groupby(messages, lambda each: each.is_retained):
        topics, payloads = zip(*((each.topics, each.payloads) for each in run), strict=True)
        found.append(Messages([*chain(*topics)], [*chain(*payloads)], is_retained))
    return found


class Catalogues:
    """The newest catalogues of verified CATALOG records, by digest, and the locations of their parts in the archive."""

    def __init__(self) -> None:
        self._whole: dict[bytes, Catalogue] = {}
        self._parts: dict[bytes, dict[int, CataloguePart]] = {}
        self._locations: dict[bytes, dict[int, RecordLocation]] = {}

    def add(self, part: CataloguePart, location: RecordLocation) -> bool:
        """Add one part; True when it completes a catalogue that was not known. Raises Malformed."""
        digest = part.digest
        locations = self._locations.pop(digest, {})
        locations[part.part] = location
        self._locations[digest] = locations
        if digest in self._whole:
            return False
        parts = self._parts.setdefault(digest, {})
        parts[part.part] = part
        if len(parts) < part.parts:
            return False
        self._whole[digest] = join_catalogue(self._parts.pop(digest).values())
        while len(self._locations) > _CATALOGUES_LIMIT:
            oldest = next(iter(self._locations))
            for each in (self._locations, self._parts, self._whole):
                each.pop(oldest, None)
        return True

    def get(self, digest: bytes) -> Catalogue | None:
        """The catalogue with this digest; None until all its parts have arrived."""
        return self._whole.get(digest)

    def forget(self, gateway: str, day: str) -> None:
        """Forget the locations in one file."""
        for parts in self._locations.values():
            for part in [part for part, at in parts.items() if (at.gateway, at.day) == (gateway, day)]:
                del parts[part]

    def locations(self) -> list[RecordLocation]:
        """The location of every part."""
        return [location for parts in self._locations.values() for location in parts.values()]


class ViewPublisher:
    """Publishes the messages of a follower; records are read and decoded in a thread of their own.

    Attributes:
        state: "up" while the broker takes the values; else `reason` says why not.
        is_behind: of what waits only the newest value of each tag is shown.
    """

    def __init__(self, plan: ViewPlan, follower: Follower, clock: Clock) -> None:
        self._plan, self._follower, self._clock = plan, follower, clock
        self._thread = ThreadPoolExecutor(1, "view")
        self._due, self._added = asyncio.Event(), asyncio.Event()
        self.state: Literal["up", "down", "refused"] = "down"
        self.reason = "not connected yet"
        self.is_behind = False

    def wake(self) -> None:
        """A record may be due."""
        self._due.set()
        self._added.set()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with task_group() as tasks:
            tasks.create_task(self._connect(), name="view connection")
            tasks.create_task(self._catch_up(), name="view catching up")

    async def _connect(self) -> NoReturn:
        reconnecting = Reconnecting(self._clock, SystemRandom())
        while True:
            try:
                async with connect_view(self._plan.broker) as connection:
                    log.info("view connected", broker=self._plan.broker.host)
                    reconnecting.connected()
                    self.state, self.reason = "up", ""
                    await self._publish(connection)
            except (BrokerRefused, BrokerUnreachable) as error:
                before = self.state, self.reason
                self.reason, delay_s = reconnecting.lost(error)
                self.state = "refused" if isinstance(error, BrokerRefused) else "down"
                if (self.state, self.reason) != before:  # Once, not on every attempt.
                    log.warning("view lost", reason=self.reason, code=str(error.code), retry_s=round(delay_s, 1))
            await asyncio.sleep(delay_s)

    async def _catch_up(self) -> NoReturn:
        """Keep what waits within its bound, also while the broker is away or answers nothing."""
        while True:
            if self._follower.is_behind:
                if not self.is_behind:
                    log.warning("view too far behind; of what waits only the newest value of each tag is shown")
                self.is_behind = True
                await self._in_thread(self._follower.catch_up)
            await self._added.wait()
            self._added.clear()

    async def _publish(self, connection: ViewConnection) -> NoReturn:
        # Which messages of the last connection arrived is not known: everything shown is published again.
        await self._in_thread(self._follower.show_all_again)
        while True:
            self._due.clear()
            while self._follower.has_more:
                for messages in await self._in_thread(self._follower.messages):
                    await connection.publish(
                        messages.topics, messages.payloads, qos=self._plan.qos, is_retained=messages.is_retained
                    )
                    self._note_refusal(connection.refusal)
            if self.is_behind:
                self.is_behind = False
                log.info("view keeps up again", dropped_values=self._follower.dropped)
            await connection.wait_for(self._due)

    def _note_refusal(self, refusal: str) -> None:
        if bool(refusal) == (self.state == "refused"):
            return
        self.state, self.reason = "refused" if refusal else "up", refusal
        if refusal:
            log.error("view refused", reason=refusal)
        else:
            log.info("view accepted")

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
