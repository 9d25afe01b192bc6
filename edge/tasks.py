"""Task groups whose failure does not leave the waiting task marked as cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """An `asyncio.TaskGroup`; the task that catches its exception may use `asyncio.timeout` afterwards.

    The group cancels the task that waits for it and does not undo that. Before Python 3.11.4, as on Debian 12,
    `asyncio.timeout` then mistakes its own expiry for that cancellation, and the task ends as if it were cancelled.
    """
    waiting = asyncio.current_task()
    assert waiting is not None
    before = waiting.cancelling()
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup:
        if waiting.cancelling() > before:
            waiting.uncancel()
        raise
