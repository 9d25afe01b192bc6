"""A coroutine that is cancelled at one of its suspensions, whichever the test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CancelledAt:
    """Runs a coroutine, and has the task that awaits it cancelled at one suspension.

    Attributes:
        suspensions: how often it was suspended so far.
    """

    def __init__(self, work: Coroutine[Any, Any, None], at: int, *, is_late: bool = False) -> None:
        """`at` counts suspensions from 1; `is_late` cancels when what was waited for has come, and is not seen yet."""
        self.suspensions = 0
        self._work, self._at, self._is_late = work, at, is_late

    def __await__(self) -> Generator[Any, Any, None]:
        """Hand on what the coroutine waits for, and what comes of it."""
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
