"""The store for asyncio: a thread waits for the disk, so that the event loop never does.

While one commit is on its way to the disk, records that arrive are queued and become the next commit: the slower the
disk, the larger the commits.
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
    """Where records were stored: under the numbers `first` to `last`, durable or, while the disk fails, in memory."""

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
    """A store with a thread of its own.

    Disk errors are handled by the store. Any other error ends the thread: it is raised by every future that waits, by
    `sleep` at once, by later calls, and when the writer is closed.
    """

    def __init__(self, store: Store, on_events: Callable[[Sequence[BufferEvent]], None] = lambda _: None) -> None:
        """`on_events` is called in the event loop with what an operator should know."""
        self._store, self._on_events = store, on_events
        self._queue: SimpleQueue[_Append | _Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="buffer", daemon=True)
        self._failure: BaseException | None = None

    def store(self, records: Sequence[Storable], *, urgent: bool = False) -> asyncio.Future[WriteResult]:
        """Store records; done when they are durable, or in memory while the disk fails.

        Raises (in the future):
            BufferFull: no record was taken; their seq must be declared lost.
        """
        future: asyncio.Future[WriteResult] = self._loop.create_future()
        self._submit(_Append(records, urgent, future))
        return future

    def run(self, call: Callable[[Store], T]) -> asyncio.Future[T]:
        """Call a function with the store in its thread, after everything submitted before."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._submit(_Job(call, future))
        return future

    async def sleep(self, duration_s: float) -> None:
        """Return after this time; raises at once what ends the thread meanwhile."""
        await asyncio.wait([self._ended], timeout=duration_s)
        if self._failure is not None:
            raise self._failure

    def _submit(self, item: _Append | _Job) -> None:
        if self._failure is not None:
            raise self._failure
        self._queue.put(item)

    async def __aenter__(self) -> BufferWriter:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what was submitted, then close the store."""
        self._queue.put(None)
        await asyncio.wait([self._ended])
        if self._failure is not None and error is None:
            raise self._failure

    # In the thread

    def _work(self) -> None:
        failure: BaseException | None = None
        try:
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 - raised in the event loop, see the class
            failure = error
        finally:
            self._store.close()
            self._loop.call_soon_threadsafe(self._end, failure)

    def _turn(self) -> bool:
        """One commit with everything queued; False at the end."""
        items = self._gather()
        outcomes: list[_Outcome] = []
        appended: list[tuple[_Append, int]] = []
        try:
            for item in items:
                if isinstance(item, _Append):
                    self._append(item, appended, outcomes)
                elif item is not None:
                    self._commit(appended, outcomes)
                    outcomes.append(_outcome(item, self._store))
            self._commit(appended, outcomes)
        except BaseException as error:
            outcomes.extend((item.future, None, error) for item in items if item is not None)
            raise
        finally:
            self._loop.call_soon_threadsafe(self._publish, outcomes, self._store.take_events())
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
        except BufferFull as error:
            outcomes.append((item.future, None, error))

    def _commit(self, appended: list[tuple[_Append, int]], outcomes: list[_Outcome]) -> None:
        is_durable = self._store.commit()
        for item, first in appended:
            outcomes.append((item.future, WriteResult(first, first + len(item.records) - 1, is_durable), None))
        appended.clear()

    # In the event loop

    def _end(self, failure: BaseException | None) -> None:
        self._failure = failure
        if failure is not None:
            with contextlib.suppress(Empty):
                while True:
                    item = self._queue.get_nowait()
                    if item is not None and not item.future.done():
                        item.future.set_exception(failure)
        self._ended.set_result(None)

    def _publish(self, outcomes: Sequence[_Outcome], events: Sequence[BufferEvent]) -> None:
        for future, result, error in outcomes:
            if future.done():  # Cancelled: its caller has stopped waiting, and the record is stored all the same.
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        if events:
            self._on_events(events)


def _outcome(job: _Job, store: Store) -> _Outcome:
    try:
        return job.future, job.call(store), None
    except Exception as error:  # noqa: BLE001 - raised to the caller of `run`
        return job.future, None, error
