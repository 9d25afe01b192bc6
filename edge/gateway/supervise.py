"""Sessions that come back: one task per device connects, uses the session, and tries again when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, NoReturn, Protocol, TypeVar

from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation

PATIENCE_NS = 30 * 10**9
"""How long a peer may owe us an answer before its session is given up; drivers give up much earlier by themselves."""

_DOUBLINGS_LIMIT = 32

SessionT = TypeVar("SessionT")


class Peer(Protocol[SessionT]):
    """Something we hold sessions with, one at a time."""

    waiting_since_ns: int | None
    """Boot time since when the peer owes us an answer; None while it does not."""

    def connect(self) -> AbstractAsyncContextManager[SessionT]:
        """Open a session."""
        ...

    async def use(self, session: SessionT) -> NoReturn:
        """Use the session until it is lost, which raises."""
        ...

    def lost(self, error: DeviceUnreachable | DeviceRefused | ProtocolViolation) -> bool:
        """An attempt has ended; whether the peer had answered in it."""
        ...


class Timer(Protocol):
    """Waiting for boot time."""

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> None:
        """Call back at `due_ns`."""
        ...

    def until(self, due_ns: int) -> Awaitable[None]:
        """Done at `due_ns`."""
        ...


class Retry:
    """How long to wait before the next attempt: growing, jittered, and bounded.

    A peer that stays away is demoted to a slow probe at the longest delay; one that refuses us is at once.

    Attributes:
        failures: attempts in vain since the last answer.
        is_demoted: the peer is only probed slowly.
    """

    def __init__(self, first_ns: int, limit_ns: int, random: Random) -> None:
        self.failures = 0
        self.is_demoted = False
        self._first_ns = first_ns
        self._limit_ns = max(first_ns, limit_ns)
        self._random = random

    def has_answered(self) -> None:
        """Start over with the first delay."""
        self.failures, self.is_demoted = 0, False

    def delay_ns(self, error: Exception) -> int:
        """The wait after this failure: between a half and the whole of a delay that doubles each time."""
        longest_ns = min(self._first_ns << min(self.failures, _DOUBLINGS_LIMIT), self._limit_ns)
        if isinstance(error, DeviceRefused):
            longest_ns = self._limit_ns
        self.failures += 1
        self.is_demoted = longest_ns == self._limit_ns
        return longest_ns - int(self._random.random() * longest_ns / 2)


async def supervise(
    peer: Peer[Any], retry: Retry, clock: Clock, timer: Timer, *, patience_ns: int = PATIENCE_NS
) -> NoReturn:
    """Hold a session with the peer, for ever.

    Only what a driver may raise is handled. Anything else is a bug, and ends the task.
    """
    watch = _Watch(peer, clock, timer, patience_ns)
    while True:
        error = await _attempt(peer, watch)
        if peer.lost(error):
            retry.has_answered()
        await timer.until(clock.boot_ns() + retry.delay_ns(error))


async def _attempt(peer: Peer[Any], watch: _Watch) -> DeviceUnreachable | DeviceRefused | ProtocolViolation:
    """One session, from connecting to its loss."""
    try:
        async with watch.guard(), peer.connect() as session:
            await peer.use(session)
    except (DeviceUnreachable, DeviceRefused, ProtocolViolation) as error:
        return error
    except TimeoutError as error:
        if not watch.has_expired:
            raise
        silence = DeviceUnreachable(f"nothing was heard for {watch.patience_ns / 1e9:g} s; the session was given up")
        silence.__cause__ = error
        return silence


class _Watch:
    """Ends an attempt whose peer keeps us waiting, at no cost per answer."""

    def __init__(self, peer: Peer[Any], clock: Clock, timer: Timer, patience_ns: int) -> None:
        self.patience_ns = patience_ns
        self._peer = peer
        self._clock = clock
        self._timer = timer
        self._guard = asyncio.timeout(None)
        self._look_later(clock.boot_ns())

    def guard(self) -> asyncio.Timeout:
        """The block that is ended."""
        self._guard = asyncio.timeout(None)
        return self._guard

    @property
    def has_expired(self) -> bool:
        """Whether the last attempt ended because of us."""
        return self._guard.expired()

    def _look_later(self, since_ns: int) -> None:
        self._timer.call_at(since_ns + self.patience_ns, self._look)

    def _look(self) -> None:
        now_ns = self._clock.boot_ns()
        since_ns = self._peer.waiting_since_ns
        if since_ns is not None and now_ns - since_ns >= self.patience_ns:
            self._guard.reschedule(asyncio.get_running_loop().time())
            since_ns = None
        self._look_later(now_ns if since_ns is None else since_ns)
