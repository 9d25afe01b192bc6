"""A view follows the archive: what was archived and proven authentic is shown, at the pace of the view's broker.

It holds places, not records: what waits is read from the archive again when its turn comes. The archive never waits
for a view.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import NamedTuple

from edge.logs import get_logger
from edge.relay.archive import Place
from edge.relay.catalogues import Catalogues
from edge.relay.unified_namespace import Message, UnifiedNamespace, origin
from edge.seal import CataloguePart, Data, Garbage, Malformed, RecordType, decode, parse
from edge.seal.packing import unpack

log = get_logger(__name__)

SHOWN_TYPES = (RecordType.DATA, RecordType.CATALOG)


class Item(NamedTuple):
    """An authentic record to show."""

    place: Place
    arrived_ns: int


class Memory(NamedTuple):
    """What a view must remember: where its catalogues lie, what it has not shown yet, and how new what it shows is."""

    catalogues: list[Place]
    unfinished: list[Item]
    shown_ns: dict[str, int]


class Follower:
    """What is still to be shown, and what waits for its catalogue; both bounded.

    The archive's thread offers, the view's thread shows.

    Attributes:
        skipped: records never shown because the view was too far behind, or their catalogue never came.
    """

    def __init__(self, view: UnifiedNamespace, read: Callable[[Place], bytes], limit: int = 100_000) -> None:
        self._view = view
        self._read = read
        self._limit = limit
        self._due: deque[Item] = deque()
        self._waiting: dict[bytes, deque[Item]] = {}
        self._catalogues = Catalogues()
        self._lock = Lock()
        self.skipped = 0

    def offer(self, items: Iterable[Item]) -> None:
        """Records to show after those offered before; the oldest make room."""
        with self._lock:
            self._due.extend(items)
            while len(self._due) > self._limit:
                self._due.popleft()
                self.skipped += 1

    def messages(self, count: int) -> list[Message]:
        """What the next records show."""
        found: list[Message] = []
        for _ in range(count):
            with self._lock:
                if not self._due:
                    break
                found.extend(self._show(self._due.popleft()))
        return found

    @property
    def has_more(self) -> bool:
        """Whether something is due."""
        return bool(self._due)

    @property
    def unfinished(self) -> int:
        """How many records are due, or wait for their catalogue."""
        return len(self._due) + self._waiting_count()

    def memory(self) -> Memory:
        """What to remember for the next start."""
        with self._lock:
            unfinished = [item for items in self._waiting.values() for item in items] + list(self._due)
            return Memory(self._catalogues.places(), unfinished, self._view.shown_ns())

    def recall(self, memory: Memory) -> None:
        """Go on from what was remembered; what was shown is known to the view."""
        self.offer(Item(place, 0) for place in memory.catalogues)
        self.offer(memory.unfinished)

    def _waiting_count(self) -> int:
        return sum(map(len, list(self._waiting.values())))

    def _show(self, item: Item) -> Iterator[Message]:
        try:
            frame = parse(self._read(item.place))
            payload = decode(frame.type, unpack(frame.payload, frame.enc))
            if isinstance(payload, CataloguePart):
                if self._catalogues.add(payload, item.place):
                    self._due.extendleft(reversed(self._waiting.pop(payload.digest, ())))
            elif isinstance(payload, Data):
                yield from self._show_data(payload, f"{frame.epoch.hex()}/{frame.seq}", item)
        except (OSError, Garbage, Malformed) as error:
            # Moved away since, or authentic and not in the format: the archive is for `verify` to judge.
            log.warning("record cannot be shown", place=item.place, reason=str(error))
            self.skipped += 1

    def _show_data(self, data: Data, record: str, item: Item) -> Iterator[Message]:
        if not data.wire_blocks:
            return
        catalogue = self._catalogues.get(data.catalogue)
        if catalogue is None:
            self._wait(data.catalogue, item)
            return
        for number, block in enumerate(data.blocks(catalogue)):
            where = origin(record, number, block, data.utc_ns, data.boot_ns, data.time, item.arrived_ns)
            yield from self._view.messages(data.catalogue, catalogue, block, where)

    def _wait(self, digest: bytes, item: Item) -> None:
        self._waiting.setdefault(digest, deque()).append(item)
        if self._waiting_count() <= self._limit:
            return
        oldest = next(iter(self._waiting))
        self._waiting[oldest].popleft()
        self.skipped += 1
        if not self._waiting[oldest]:
            del self._waiting[oldest]
