"""Task groups that end when they are cancelled, whatever their tasks do, and whose failure leaves no trace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_UNDOES_ITS_CANCELLATION = sys.version_info >= (3, 13)


def end_if_cancelled() -> None:
    """Raise the cancellation of this task, where an error of what it was cleaning up has hidden it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class InsistingGroup(asyncio.TaskGroup):
    """A group that cancels its tasks again, until they have ended.

    `asyncio.wait_for` of Python 3.11 forgets a cancellation that comes in the moment in which what it waits for is
    done, and libraries of drivers use it: their task would go on, and the group would wait for it for ever.
    """

    def __init__(self, again_s: float) -> None:
        super().__init__()
        self._again_s = again_s

    @property
    def is_ending(self) -> bool:
        """Whether its tasks were cancelled."""
        return bool(self._aborting)  # type: ignore[attr-defined]

    def _abort(self) -> None:
        super()._abort()  # type: ignore[misc]
        asyncio.get_running_loop().call_later(self._again_s, self._abort_again)

    def _abort_again(self) -> None:
        if self._tasks:
            self._abort()


@asynccontextmanager
async def task_group(again_s: float = 5.0) -> AsyncIterator[InsistingGroup]:
    """An `asyncio.TaskGroup`; the task that catches its exception may use `asyncio.timeout` afterwards.

    A task that has not ended `again_s` after it was cancelled is cancelled again: longer than it may clean up for.

    The group cancels the task that waits for it and, before Python 3.13, does not undo that. `asyncio.timeout` then
    mistakes its own expiry for that cancellation, and the task ends as if it were cancelled. A cancellation from
    elsewhere that meets an error of a task is lost in a group: here it wins, or a device whose connection breaks just
    when the gateway stops would be read for ever.
    """
    waiting = asyncio.current_task()
    assert waiting is not None
    before, is_left = waiting.cancelling(), False
    try:
        async with InsistingGroup(again_s) as tasks:
            yield tasks
            is_left = True
    except BaseExceptionGroup as errors:
        has_cancelled: bool = tasks._parent_cancel_requested  # type: ignore[attr-defined]  # noqa: SLF001
        if is_left and has_cancelled and not _UNDOES_ITS_CANCELLATION:
            waiting.uncancel()
        if waiting.cancelling() > before:
            raise asyncio.CancelledError from errors
        raise
