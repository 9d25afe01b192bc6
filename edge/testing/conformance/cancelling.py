"""Rules about resources: a cancelled operation leaves nothing open, and memory does not grow."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Coroutine, Generator
from typing import Any

from edge.testing.conformance.reading import assert_values, read_once
from edge.testing.conformance.rule import live
from edge.testing.conformance.stand import EVENT_TIMEOUT_S, Stand, stand
from edge.testing.conformance.subject import Subject
from edge.testing.conformance.watch import OpenResources, wait_until_none, wait_until_only

_SUSPENSIONS = 2_000
_READS = 200
_SESSIONS = 10
_GROWTH_BYTES = 256 * 1024


async def _read_once(setup: Stand, plan: Any) -> None:
    async with setup.driver.connect() as session:
        await session.identity()
        await session.read(plan)


@live("cancelled-anywhere-leaves-nothing-open")
async def cancelled_anywhere_leaves_nothing_open(subject: Subject) -> None:
    """A session that is cancelled at any await leaves no task, no descriptor and no connection open."""
    async with stand(subject, is_recorded=True) as setup:
        plan = setup.plan()
        await _read_once(setup, plan)
        await _wait_until_idle(setup)
        before = OpenResources.now()
        for is_late in (False, True):
            at, has_ended = 0, False
            while not has_ended:
                at += 1
                assert at < _SUSPENSIONS, f"still not through after {_SUSPENSIONS} suspensions"
                has_ended = await _cancel_at(setup, plan, at, is_late=is_late)
                await _wait_until_idle(setup)
                await wait_until_only(before)
        assert_values(await read_once(setup), plan.layout, subject.values(0))


async def _cancel_at(setup: Stand, plan: Any, at: int, *, is_late: bool) -> bool:
    """Cancel a session at one suspension. Returns True if it ended before that suspension."""

    async def run() -> None:
        await stepped

    stepped = CancelledAt(_read_once(setup, plan), at, is_late=is_late)
    task = asyncio.create_task(run())
    done, _ = await asyncio.wait([task], timeout=EVENT_TIMEOUT_S)
    assert done, f"cancelled at suspension {at}, it goes on"
    if stepped.suspensions < at:
        task.result()
        return True
    # A task that was cancelled late may already be complete.
    assert task.cancelled() or (is_late and task.exception() is None), f"cancelled at {at}: {task.exception()!r}"
    return False


async def _wait_until_idle(setup: Stand) -> None:
    """Wait until the peer has seen the end of every connection."""
    proxy = setup.proxy
    if proxy is not None:
        await wait_until_none(lambda: [] if proxy.is_idle else ["a connection to the device"])


@live("memory-is-bounded")
async def memory_is_bounded(subject: Subject) -> None:
    """Memory does not grow with readings or sessions."""
    async with stand(subject, tags=[*subject.tags, subject.missing]) as setup:
        plan = setup.plan()

        async def use() -> None:
            for _ in range(_SESSIONS):
                async with setup.driver.connect() as session:
                    await session.identity()
                    for _ in range(_READS // _SESSIONS):
                        await session.read(plan)

        await use()  # Fills caches, which are no growth.
        tracemalloc.start()
        try:
            await use()
            gc.collect()
            used_bytes, _ = tracemalloc.get_traced_memory()
            await use()
            gc.collect()
            grown_bytes = tracemalloc.get_traced_memory()[0] - used_bytes
        finally:
            tracemalloc.stop()

    assert grown_bytes < _GROWTH_BYTES, f"{_READS} reads and {_SESSIONS} sessions kept {grown_bytes:,} bytes"


class CancelledAt:
    """Runs a coroutine, and cancels the awaiting task at one suspension.

    Attributes:
        suspensions: number of suspensions so far.
    """

    def __init__(self, work: Coroutine[Any, Any, None], at: int, *, is_late: bool = False) -> None:
        """`at` counts suspensions from 1; `is_late` cancels once the awaited future is done, before the task runs."""
        self.suspensions = 0
        self._work, self._at, self._is_late = work, at, is_late

    def __await__(self) -> Generator[Any, Any, None]:
        """Forward awaited futures and their results."""
        step = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                waited_for = next(step) if error is None else step.throw(error)
            except StopIteration:
                return
            error = None
            self.suspensions += 1
            if self.suspensions == self._at:
                self._cancel(waited_for)
            try:
                yield waited_for
            except BaseException as thrown:  # noqa: BLE001 - thrown into the coroutine
                error = thrown

    def _cancel(self, waited_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._is_late and isinstance(waited_for, asyncio.Future):
            # Runs before the task is woken: the future is done, and the task has not resumed.
            waited_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
