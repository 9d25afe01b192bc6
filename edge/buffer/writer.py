"""The store for asyncio: a thread that waits for the disk, so that the loop never does.

While one commit is with the disk, what arrives gathers and goes as the next: the slower the disk, the larger the
commits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from edge.buffer.segment import Storable
from edge.buffer.store import BufferEvent, Store
from edge.errors import BufferFull

T = TypeVar("T")
_RETRY_S = 1.0


class WriteResult(NamedTuple):
    """Where records went: numbers `first` to `last`, on disk or, while that does not work, in memory."""

    first: int
    last: int
    is_durable: bool


@dataclass(slots=True, eq=False)
class _Append:
    records: Sequence[Storable]
    urgent: bool
    future: asyncio.Future[WriteResult]


@dataclass(slots=True, eq=False)
class _Job:
    call: Callable[[Store], Any]
    future: asyncio.Future[Any]


_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class BufferWriter:
    """A store with a thread of its own."""

    def __init__(self, store: Store, on_events: Callable[[Sequence[BufferEvent]], None] = lambda _: None) -> None:
        """`on_events` is called in the loop with what the operator should know."""
        self._store, self._on_events = store, on_events
        self._queue: SimpleQueue[_Append | _Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="buffer", daemon=True)
        self._failure: BaseException | None = None

    def store(self, records: Sequence[Storable], *, urgent: bool = False) -> asyncio.Future[WriteResult]:
        """Keep records; done when they are durable, or in memory while the disk does not work.

        Raises (in the future):
            BufferFull: none was taken; their seq must be declared lost.
        """
        future: asyncio.Future[WriteResult] = self._loop.create_future()
        self._hand_in(_Append(records, urgent, future))
        return future

    def run(self, call: Callable[[Store], T]) -> asyncio.Future[T]:
        """Do something else with the store, in its thread, after what was handed in before."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._hand_in(_Job(call, future))
        return future

    def _hand_in(self, item: _Append | _Job) -> None:
        if self._failure is None:
            self._queue.put(item)
        else:
            item.future.set_exception(self._failure)

    async def __aenter__(self) -> BufferWriter:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what was handed in, then close the store."""
        self._queue.put(None)
        await self._ended.wait()
        if self._failure is not None and error is None:
            raise self._failure

    # In the thread

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits, and where the buffer is closed
            self._loop.call_soon_threadsafe(self._fail, error)
        finally:
            self._store.close()
            self._loop.call_soon_threadsafe(self._ended.set)

    def _turn(self) -> bool:
        """One commit with everything that waits; False at the end."""
        items = self._gather()
        outcomes: list[_Outcome] = []
        appended: list[tuple[_Append, int]] = []
        try:
            for item in items:
                if isinstance(item, _Append):
                    self._append(item, appended, outcomes)
                elif item is not None:
                    self._commit(appended, outcomes)
                    outcomes.append(_done(item, self._store))
            self._commit(appended, outcomes)
        except BaseException as error:
            outcomes.extend((item.future, None, error) for item in items if item is not None)
            raise
        finally:
            self._loop.call_soon_threadsafe(self._tell, outcomes, self._store.take_events())
        return None not in items

    def _gather(self) -> list[_Append | _Job | None]:
        items: list[_Append | _Job | None] = []
        with contextlib.suppress(Empty):
            items.append(self._queue.get(timeout=_RETRY_S if self._store.is_in_memory else None))
            while True:
                items.append(self._queue.get_nowait())
        return items

    def _append(self, item: _Append, appended: list[tuple[_Append, int]], outcomes: list[_Outcome]) -> None:
        try:
            appended.append((item, self._store.append(item.records, urgent=item.urgent)))
        except (BufferFull, ValueError) as error:
            outcomes.append((item.future, None, error))

    def _commit(self, appended: list[tuple[_Append, int]], outcomes: list[_Outcome]) -> None:
        is_durable = self._store.commit()
        for item, first in appended:
            outcomes.append((item.future, WriteResult(first, first + len(item.records) - 1, is_durable), None))
        appended.clear()

    # In the loop

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        with contextlib.suppress(Empty):
            while True:
                item = self._queue.get_nowait()
                if item is not None and not item.future.done():
                    item.future.set_exception(error)

    def _tell(self, outcomes: Sequence[_Outcome], changes: Sequence[BufferEvent]) -> None:
        for future, result, error in outcomes:
            if future.done():  # Cancelled: nobody waits any more, and the record is kept all the same.
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        if changes:
            self._on_events(changes)


def _done(job: _Job, store: Store) -> _Outcome:
    try:
        return job.future, job.call(store), None
    except Exception as error:  # noqa: BLE001 - it is the caller's, and is raised there
        return job.future, None, error
