"""Rules about ending: whatever is interrupted leaves nothing open, and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Coroutine, Generator
from typing import Any

from edge.testing.conformance.reading import assert_values, read_once
from edge.testing.conformance.rule import live
from edge.testing.conformance.stand import PATIENCE_S, Stand, stand
from edge.testing.conformance.subject import Subject
from edge.testing.conformance.watch import Open, wait_until_none, wait_until_only

_SUSPENSIONS = 2_000
_READS = 200
_SESSIONS = 10
_GROWTH_BYTES = 256 * 1024


async def _talk(stood: Stand, plan: Any) -> None:
    async with stood.driver.connect() as session:
        await session.identity()
        await session.read(plan)


@live("cancelled-anywhere-leaves-nothing-open")
async def cancelled_anywhere_leaves_nothing_open(subject: Subject) -> None:
    """Cancelled at any await of connecting, asking, reading or closing, it leaves no task, no socket, no connection."""
    async with stand(subject, is_recorded=True) as stood:
        plan = stood.plan()
        await _talk(stood, plan)
        await _wait_until_idle(stood)
        before = Open.now()
        for is_late in (False, True):
            at, has_ended = 0, False
            while not has_ended:
                at += 1
                assert at < _SUSPENSIONS, f"still not through after {_SUSPENSIONS} suspensions"
                has_ended = await _cancel_at(stood, plan, at, is_late=is_late)
                await _wait_until_idle(stood)
                await wait_until_only(before)
        assert_values(await read_once(stood), plan.layout, subject.values(0))


async def _cancel_at(stood: Stand, plan: Any, at: int, *, is_late: bool) -> bool:
    """Whether it came to its end before there was anything to cancel."""

    async def run() -> None:
        await stepped

    stepped = CancelledAt(_talk(stood, plan), at, is_late=is_late)
    task = asyncio.create_task(run())
    done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
    assert done, f"cancelled at suspension {at}, it goes on"
    if stepped.suspensions < at:
        task.result()
        return True
    # What was cancelled late may have nothing left to do but to end well.
    assert task.cancelled() or (is_late and task.exception() is None), f"cancelled at {at}: {task.exception()!r}"
    return False


async def _wait_until_idle(stood: Stand) -> None:
    """Wait until the peer has seen the end of every connection."""
    proxy = stood.proxy
    if proxy is not None:
        await wait_until_none(lambda: [] if proxy.is_idle else ["a connection to the device"])


@live("memory-is-bounded")
async def memory_is_bounded(subject: Subject) -> None:
    """Neither reading nor connecting again lets memory grow."""
    async with stand(subject, tags=[*subject.tags, subject.missing]) as stood:
        plan = stood.plan()

        async def use() -> None:
            for _ in range(_SESSIONS):
                async with stood.driver.connect() as session:
                    await session.identity()
                    for _ in range(_READS // _SESSIONS):
                        await session.read(plan)

        await use()  # What is kept once is not growth.
        tracemalloc.start()
        try:
            await use()
            gc.collect()
            kept_bytes, _ = tracemalloc.get_traced_memory()
            await use()
            gc.collect()
            grown_bytes = tracemalloc.get_traced_memory()[0] - kept_bytes
        finally:
            tracemalloc.stop()

    assert grown_bytes < _GROWTH_BYTES, f"{_READS} reads and {_SESSIONS} sessions kept {grown_bytes:,} bytes"


class CancelledAt:
    """Run a coroutine, and cancel the task that awaits it at one suspension.

    Attributes:
        suspensions: how often it was suspended so far.
    """

    def __init__(self, work: Coroutine[Any, Any, None], at: int, *, is_late: bool = False) -> None:
        """`at` counts suspensions from 1; `is_late` cancels when what was waited for has come, and is not seen yet."""
        self.suspensions = 0
        self._work, self._at, self._is_late = work, at, is_late

    def __await__(self) -> Generator[Any, Any, None]:
        """Forward what the coroutine awaits, and the result."""
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
            except BaseException as thrown:  # noqa: BLE001 - whatever it is, it is for the coroutine
                error = thrown

    def _cancel(self, waited_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._is_late and isinstance(waited_for, asyncio.Future):
            # Called before the task is woken: the future is done, and the task does not know yet.
            waited_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
