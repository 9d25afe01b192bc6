"""How the demo is asked to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Self


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal ask for a clean end; a second Ctrl-C asks for one at once.

    Attributes:
        is_asked: a clean end was asked for.
        is_at_once: it is not waited for.
    """

    def __init__(self) -> None:
        self.is_asked = self.is_at_once = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._end_at_once: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        """Take the signals."""
        signal.signal(signal.SIGINT, self._receive)
        signal.signal(signal.SIGTERM, self._receive)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # As nohup has it.
            signal.signal(signal.SIGHUP, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        """Ignore them: all has ended but this process, which does at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def attach(self, end_at_once: Callable[[], object]) -> None:
        """Say what is to be done at a second Ctrl-C, in the loop that runs."""
        self._loop, self._end_at_once = asyncio.get_running_loop(), end_at_once
        if self.is_asked:
            self._loop.call_soon(self._act)

    def ask(self) -> None:
        """Ask for a clean end."""
        self.is_asked = True
        self._changed.set()

    async def wait(self, within_s: float) -> None:
        """Wait until an end is asked for, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - see signal.signal
        self.is_at_once = self.is_at_once or (self.is_asked and number == signal.SIGINT)
        self.is_asked = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        self._changed.set()
        if self.is_at_once and self._end_at_once is not None:
            self._end_at_once()
