"""Task groups whose failure neither leaves the waiting task marked as cancelled, nor hides that it was cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_UNDOES_ITS_CANCELLATION = sys.version_info >= (3, 13)


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """An `asyncio.TaskGroup`; the task that catches its exception may use `asyncio.timeout` afterwards.

    The group cancels the task that waits for it and, before Python 3.13, does not undo that. `asyncio.timeout` then
    mistakes its own expiry for that cancellation, and the task ends as if it were cancelled. A cancellation from
    elsewhere that meets an error of a task is lost in a group: here it wins, or a device whose connection breaks just
    when the gateway stops would be read for ever.
    """
    waiting = asyncio.current_task()
    assert waiting is not None
    before, is_left = waiting.cancelling(), False
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            is_left = True
    except BaseExceptionGroup as errors:
        has_cancelled: bool = tasks._parent_cancel_requested  # type: ignore[attr-defined]  # noqa: SLF001
        if is_left and has_cancelled and not _UNDOES_ITS_CANCELLATION:
            waiting.uncancel()
        if waiting.cancelling() > before:
            raise asyncio.CancelledError from errors
        raise
