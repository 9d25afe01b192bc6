"""Questions of a person to a device that is being scanned, asked in its own session and between its scans.

A question is a coroutine with the session: a read of some tags, one level of a browse. It runs in steps, a request or
a few each, which end where the driver awaits `edge.driver.pause`. A step begins only while no scan of the connection
is under way, and none is due for twice as long as the longest step has taken; until there is one, twice the longest
scan of the device stands for it. A scan that becomes due waits for the end of the step, never for that of the
question. So a question takes the time that scans leave, and is refused where they leave none.

What is never done: a step is not cut off in the middle, since an answer that comes later could pass for another. It
ends with the time limits of the driver, and with the session. Where who asks has gone, it is the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from edge.clock import Clock
from edge.driver import Session
from edge.driver.pause import pausing
from edge.errors import DeviceUnreachable

STEP_NS_MIN = 5 * 10**6
"""What a step is taken to last at least."""

_MARGIN = 2

ResultT = TypeVar("ResultT")
Question = Callable[[Session[Any]], Awaitable[ResultT]]


class Busy(Exception):
    """The scans, or another question, leave no time for this one."""


class Scanned(Protocol):
    """A device that is scanned, as a question sees it."""

    name: str
    reason: str
    waiting_since_ns: int | None

    @property
    def is_asking(self) -> bool:
        """Whether a scan is under way, or another question of the gateway itself."""
        ...

    @property
    def next_due_ns(self) -> int | None:
        """Boot time of the next scan; None where none will come by itself."""
        ...

    @property
    def longest_scan_ns(self) -> int:
        """How long the slowest of the last scans took."""
        ...


class Questions:
    """The questions to all devices that share one connection: one at a time."""

    def __init__(self, clock: Clock) -> None:
        self._boot_ns = clock.boot_ns
        self._open: dict[Scanned, tuple[Session[Any], set[asyncio.Task[Any]]]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._step_ended = asyncio.Event()
        self._step_began_ns: int | None = None
        self._in_turn: asyncio.Task[Any] | None = None
        self._unwanted: set[asyncio.Task[Any]] = set()
        self._need_ns = STEP_NS_MIN

    def open(self, device: Scanned, session: Session[Any]) -> None:
        """The device answers: it can be asked."""
        self._open[device] = session, set()

    def close(self, device: Scanned) -> None:
        """The session ends, and with it what is being asked."""
        _, tasks = self._open.pop(device, (None, set()))
        for task in tasks:
            task.cancel()

    def note_scan_end(self) -> None:
        """A scan has ended: there may be time for a step."""
        self._changed.set()

    @property
    def is_in_step(self) -> bool:
        """Whether a step is under way: a scan has to wait for its end."""
        return self._step_began_ns is not None

    async def step_end(self) -> None:
        """Wait until no step is under way."""
        while self.is_in_step:
            self._step_ended.clear()
            await self._step_ended.wait()

    async def ask(self, device: Scanned, question: Question[ResultT], within_s: float) -> ResultT:
        """The answer to a question; to cancel it withdraws the question, of which no further step begins.

        Raises:
            Busy: scans and other questions left no time for it.
            DeviceUnreachable: the device is not connected, or does not answer.
            ProtocolViolation: as `edge.driver.Session.read`.
        """
        if device not in self._open:
            raise DeviceUnreachable(device.reason or f"{device.name} is not connected yet")
        session, tasks = self._open[device]
        until_ns = self._boot_ns() + int(within_s * 1e9)
        task = asyncio.create_task(self._answer(device, session, question, until_ns))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            self._withdraw(task)
            raise
        if task.cancelled():
            raise DeviceUnreachable(f"the session with {device.name} ended before it answered")
        return task.result()

    def _withdraw(self, task: asyncio.Task[Any]) -> None:
        """End a question now, or after the step that is under way: what is on the wire is not cut off."""
        if self._in_turn is task and self.is_in_step:
            self._unwanted.add(task)
            task.add_done_callback(self._unwanted.discard)
        else:
            task.cancel()

    async def _answer(
        self, device: Scanned, session: Session[Any], question: Question[ResultT], until_ns: int
    ) -> ResultT:
        if not await self._is_in_time(self._one_at_a_time.acquire(), until_ns):
            raise Busy(f"{device.name} is being asked other questions; try again when they are answered")

        async def pause() -> None:
            self._end_step(device)
            if self._in_turn in self._unwanted:
                raise asyncio.CancelledError
            await self._begin_step(device, until_ns)

        try:
            self._in_turn = asyncio.current_task()
            self._need_ns = max(STEP_NS_MIN, _MARGIN * device.longest_scan_ns)
            await self._begin_step(device, until_ns)
            with pausing(pause):
                return await question(session)
        finally:
            self._in_turn = None
            self._end_step(device)
            self._one_at_a_time.release()

    async def _begin_step(self, device: Scanned, until_ns: int) -> None:
        while not self._has_time():
            self._changed.clear()
            if not await self._is_in_time(self._changed.wait(), until_ns):
                raise Busy(
                    f"the scans of {device.name} leave no {self._need_ns / 1e6:.0f} ms between them, which this "
                    "question would need; ask again later, or for less"
                )
        self._step_began_ns = device.waiting_since_ns = self._boot_ns()  # A hung device ends the session.

    def _end_step(self, device: Scanned) -> None:
        if self._step_began_ns is not None:
            self._need_ns = max(self._need_ns, _MARGIN * (self._boot_ns() - self._step_began_ns))
            self._step_began_ns = device.waiting_since_ns = None
            self._step_ended.set()

    def _has_time(self) -> bool:
        """Whether nothing is under way, and nothing is due before a step that takes as long as it may ends."""
        if any(device.is_asking for device in self._open):
            return False
        due = [due_ns for device in self._open if (due_ns := device.next_due_ns) is not None]
        return not due or min(due) - self._boot_ns() >= self._need_ns

    async def _is_in_time(self, wait: Awaitable[object], until_ns: int) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (until_ns - self._boot_ns()) / 1e9)):
                await wait
                return True
        return False
