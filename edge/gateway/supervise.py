"""Sessions that come back: one task for each device connects, uses the session, and tries again when it is lost."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, Protocol, TypeVar

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, ProtocolViolation
from edge.scan import DeviceError, Timer

SILENCE_TIMEOUT_NS = 30 * 10**9
"""How long an answer may be outstanding before the session is given up; drivers give up much earlier themselves."""

SessionT = TypeVar("SessionT")


class SessionOwner(Protocol[SessionT]):
    """Holds sessions with a device, one at a time."""

    waiting_since_ns: int | None
    """Boot time since when an answer is outstanding; None while none is."""

    def connect(self) -> AbstractAsyncContextManager[SessionT]:
        """Open a session."""
        ...

    async def use(self, session: SessionT) -> NoReturn:
        """Use the session until it is lost, which raises."""
        ...

    def handle_loss(self, error: DeviceError) -> bool:
        """Record the end of an attempt; returns whether the device had answered in it."""
        ...


async def supervise(
    owner: SessionOwner[Any],
    backoff: Backoff,
    clock: Clock,
    timer: Timer,
    *,
    silence_timeout_ns: int = SILENCE_TIMEOUT_NS,
) -> NoReturn:
    """Keep a session open, until cancelled.

    A device that stays away is retried with growing delays; one that refuses the gateway, at once with the longest.

    Raises:
        Exception: whatever a driver must not raise: a bug, which ends the task.
    """
    watchdog = SilenceWatchdog(owner, clock, timer, silence_timeout_ns)
    try:
        while True:
            error = await _attempt(owner, watchdog)
            if owner.handle_loss(error):
                backoff.reset()
            await timer.until(clock.boot_ns() + backoff.next_ns(at_limit=isinstance(error, DeviceRefused)))
    finally:
        watchdog.close()


async def _attempt(owner: SessionOwner[Any], watchdog: SilenceWatchdog) -> DeviceError:
    """One session, from connecting to its loss; returns why it was lost."""
    try:
        async with watchdog.guard(), owner.connect() as session:
            await owner.use(session)
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
        return error
    except TimeoutError as error:
        if not watchdog.has_expired:
            raise
        why = f"nothing was heard for {watchdog.timeout_ns / 1e9:g} s; the session was given up"
        silence = DeviceUnreachable(why, code=ErrorCode.DEVICE_SILENT)
        silence.__cause__ = error
        return silence


class SilenceWatchdog:
    """Ends a session in which an answer is outstanding for too long: one timer, and no work for each answer."""

    def __init__(self, owner: SessionOwner[Any], clock: Clock, timer: Timer, timeout_ns: int) -> None:
        self.timeout_ns = timeout_ns
        self._owner = owner
        self._clock = clock
        self._timer = timer
        self._guard = asyncio.timeout(None)
        self._is_closed = False
        self._check_after_timeout(clock.boot_ns())

    def guard(self) -> asyncio.Timeout:
        """The block of one session; it ends with TimeoutError where the device is silent."""
        self._guard = asyncio.timeout(None)
        return self._guard

    @property
    def has_expired(self) -> bool:
        """Whether this watchdog ended the last session."""
        return self._guard.expired()

    def _check_after_timeout(self, since_ns: int) -> None:
        self._timer.call_at(since_ns + self.timeout_ns, self._check)

    def close(self) -> None:
        """Look no more: the owner will have no further session."""
        self._is_closed = True

    def _check(self) -> None:
        if self._is_closed:
            return
        now_ns = self._clock.boot_ns()
        since_ns = self._owner.waiting_since_ns
        if since_ns is not None and now_ns - since_ns >= self.timeout_ns:
            self._guard.reschedule(asyncio.get_running_loop().time())
            since_ns = None
        self._check_after_timeout(now_ns if since_ns is None else since_ns)
