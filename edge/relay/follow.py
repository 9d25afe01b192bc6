"""A view follows the archive: authentic records that are archived are shown, at the pace of the view's broker.

It holds locations, not records: a record is read from the archive again when its turn comes. The archive never waits
for a view.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from secrets import SystemRandom
from threading import Lock
from typing import NamedTuple, NoReturn

from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.logs import get_logger
from edge.model import Catalogue
from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import encode_text
from edge.relay.archive import RecordLocation
from edge.relay.connection import Reconnecting
from edge.relay.publish import ViewConnection, connect_view
from edge.relay.unified_namespace import Message, UnifiedNamespace, origin
from edge.seal import CataloguePart, Data, Garbage, Malformed, RecordType, Unknown, decode_frame, join_catalogue, parse

log = get_logger(__name__)

SHOWN_TYPES = (RecordType.DATA, RecordType.CATALOG)

_CATALOGUES_LIMIT = 1000
_RECORDS_AT_ONCE = 64
_MESSAGES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """Where the unified namespace is published."""

    broker: BrokerAccess
    prefix: str = ""


class ArchivedRecord(NamedTuple):
    """An authentic record to show."""

    location: RecordLocation
    arrived_ns: int


class ViewState(NamedTuple):
    """The state of a view: locations of its catalogues, records not shown yet, and UTC of the value of each topic."""

    catalogues: list[RecordLocation]
    unfinished: list[ArchivedRecord]
    shown_ns: dict[str, int]


class Follower:
    """Records still to be shown, and records that wait for their catalogue; both bounded.

    The archive's thread adds, the view's thread shows.

    Attributes:
        skipped: records never shown because the view was too far behind, or their catalogue never came.
    """

    def __init__(self, view: UnifiedNamespace, read: Callable[[RecordLocation], bytes], limit: int = 100_000) -> None:
        self._view = view
        self._read = read
        self._limit = limit
        self._due: deque[ArchivedRecord] = deque()
        self._without_catalogue: dict[bytes, deque[ArchivedRecord]] = {}
        self._catalogues = Catalogues()
        self._lock = Lock()
        self.skipped = 0

    def add(self, records: Iterable[ArchivedRecord]) -> None:
        """Records to show after those added before; over the limit the oldest are skipped."""
        with self._lock:
            self._due.extend(records)
            while len(self._due) > self._limit:
                self._due.popleft()
                self.skipped += 1

    def messages(self, count: int) -> list[Message]:
        """The messages of the next `count` records."""
        found: list[Message] = []
        for _ in range(count):
            with self._lock:
                if not self._due:
                    break
                found.extend(self._show(self._due.popleft()))
        return found

    @property
    def has_more(self) -> bool:
        """Whether a record is due."""
        return bool(self._due)

    @property
    def unfinished(self) -> int:
        """Number of records that are due or wait for their catalogue."""
        return len(self._due) + self._count_without_catalogue()

    @property
    def oldest_ns(self) -> int | None:
        """UTC at which the first of them arrived, 0 where that was before the start; None where there is none."""
        with self._lock:
            queues = [*self._without_catalogue.values(), self._due]
            return min((queue[0].arrived_ns for queue in queues if queue), default=None)

    def state(self) -> ViewState:
        """What to restore after the next start."""
        with self._lock:
            unfinished = [item for items in self._without_catalogue.values() for item in items] + list(self._due)
            return ViewState(self._catalogues.locations(), unfinished, self._view.shown_ns())

    def restore(self, state: ViewState) -> None:
        """Continue from a saved state; what was shown is known to the view."""
        self.add(ArchivedRecord(location, 0) for location in state.catalogues)
        self.add(state.unfinished)

    def _count_without_catalogue(self) -> int:
        return sum(map(len, list(self._without_catalogue.values())))

    def _show(self, record: ArchivedRecord) -> Iterator[Message]:
        try:
            frame = parse(self._read(record.location))
            unknown = Unknown()
            payload = decode_frame(frame, unknown)
            if isinstance(payload, CataloguePart):
                if self._catalogues.add(payload, record.location):
                    self._due.extendleft(reversed(self._without_catalogue.pop(payload.digest, ())))
            elif isinstance(payload, Data):
                yield from self._show_data(payload, f"{frame.epoch.hex()}/{frame.seq}", record, bool(unknown.words))
        except (OSError, Garbage, Malformed) as error:
            # The file was moved away, or the content is not in the format: the archive is for `verify` to judge.
            log.warning("record cannot be shown", place=record.location, reason=str(error))
            self.skipped += 1

    def _show_data(self, data: Data, name: str, record: ArchivedRecord, has_unknown: bool) -> Iterator[Message]:
        if not data.wire_blocks:
            return
        catalogue = self._catalogues.get(data.catalogue)
        if catalogue is None:
            self._wait_for_catalogue(data.catalogue, record)
            return
        for number, block in zip(data.numbers, data.blocks(catalogue), strict=True):
            where = origin(
                name, number, block, data.utc_ns, data.boot_ns, data.time, record.arrived_ns, has_unknown=has_unknown
            )
            yield from self._view.messages(data.catalogue, catalogue, block, where)

    def _wait_for_catalogue(self, digest: bytes, record: ArchivedRecord) -> None:
        self._without_catalogue.setdefault(digest, deque()).append(record)
        if self._count_without_catalogue() <= self._limit:
            return
        oldest = next(iter(self._without_catalogue))
        self._without_catalogue[oldest].popleft()
        self.skipped += 1
        if not self._without_catalogue[oldest]:
            del self._without_catalogue[oldest]


class Catalogues:
    """The newest catalogues of verified CATALOG records, by digest, and the locations of their parts in the archive."""

    def __init__(self) -> None:
        self._whole: dict[bytes, Catalogue] = {}
        self._parts: dict[bytes, dict[int, tuple[CataloguePart, RecordLocation]]] = {}

    def add(self, part: CataloguePart, location: RecordLocation) -> bool:
        """Add one part; True when it completes a catalogue that was not known. Raises Malformed."""
        parts = self._parts.pop(part.digest, {})
        parts[part.part] = (part, location)
        self._parts[part.digest] = parts
        if part.digest in self._whole or len(parts) < part.parts:
            return False
        self._whole[part.digest] = join_catalogue(held for held, _ in parts.values())
        while len(self._parts) > _CATALOGUES_LIMIT:
            oldest = next(iter(self._parts))
            del self._parts[oldest]
            self._whole.pop(oldest, None)
        return True

    def get(self, digest: bytes) -> Catalogue | None:
        """The catalogue with this digest; None until all its parts have arrived."""
        return self._whole.get(digest)

    def locations(self) -> list[RecordLocation]:
        """The location of every part."""
        return [location for parts in self._parts.values() for _, location in parts.values()]


class ViewPublisher:
    """Publishes the messages of a follower; records are read and decoded in a thread of their own."""

    def __init__(self, broker: BrokerAccess, follower: Follower, clock: Clock) -> None:
        self._broker, self._follower, self._clock = broker, follower, clock
        self._thread = ThreadPoolExecutor(1, "view")
        self._due = asyncio.Event()
        self._shown: dict[str, bytes] = {}
        self._is_refused = False

    def wake(self) -> None:
        """A record may be due."""
        self._due.set()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    async def run(self) -> NoReturn:
        """Connect, publish, and connect again, until cancelled."""
        reconnecting = Reconnecting(self._clock, SystemRandom())
        while True:
            try:
                async with connect_view(self._broker) as connection:
                    log.info("view connected", broker=self._broker.host)
                    reconnecting.connected()
                    await self._publish(connection)
            except (BrokerRefused, BrokerUnreachable) as error:
                reason, delay_s = reconnecting.lost(error)
                log.warning("view lost", reason=reason, retry_s=round(delay_s, 1))
            await asyncio.sleep(delay_s)

    async def _publish(self, connection: ViewConnection) -> NoReturn:
        # Which messages of the last connection arrived is not known: everything shown is published again.
        await self._publish_all(connection, list(self._shown.items()))
        loop = asyncio.get_running_loop()
        while True:
            self._due.clear()
            while self._follower.has_more:
                due = await loop.run_in_executor(self._thread, self._follower.messages, _RECORDS_AT_ONCE)
                self._shown.update(due)
                await self._publish_all(connection, due)
            await connection.wait_for(self._due)

    async def _publish_all(self, connection: ViewConnection, messages: list[tuple[str, bytes]]) -> None:
        for at in range(0, len(messages), _MESSAGES_AT_ONCE):
            part = messages[at : at + _MESSAGES_AT_ONCE]
            await connection.publish([encode_text(topic) for topic, _ in part], [payload for _, payload in part])
            if bool(connection.refusal) != self._is_refused:
                self._is_refused = not self._is_refused
                if connection.refusal:
                    log.error("view refused", reason=connection.refusal)
                else:
                    log.info("view accepted")
