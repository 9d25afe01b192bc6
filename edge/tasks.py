"""Groups of tasks whose failure ends the group, and leaves no mark on the task that waited for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """An `asyncio.TaskGroup`; whoever catches what ended it may go on waiting with a time limit.

    The group cancels the task that waits for it and does not take that back. Before Python 3.11.4, as on Debian 12,
    `asyncio.timeout` then takes its own limit for a cancellation, and the task ends as if it had been told to.
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
