"""What one scan asks of a device, and what came of it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import TypeVar, cast

from drivers.modbus.codec import Request
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError
from edge.tls import explain


class Fault(Enum):
    """Why a request has no data, where it was not an exception code of the device."""

    UNANSWERED = "no answer"
    WRONG = "a wrong answer"


class Exchange:
    """The requests of one scan on their way through a conversation."""

    __slots__ = ("answered_at_ns", "asked", "asked_at_ns", "data", "done", "doubts", "faults", "image", "left",
                 "requests", "timeout_s", "violations")  # fmt: skip

    def __init__(self, requests: Sequence[Request], image: bytearray, timeout_s: float) -> None:
        self.requests = requests
        self.image = image
        self.timeout_s = timeout_s
        self.asked = 0
        self.doubts = 0
        self.left = len(requests)
        self.faults: dict[Request, Fault | int] = {}
        self.data: dict[Request, bytes] = {}
        self.violations: list[str] = []
        self.asked_at_ns = 0
        self.answered_at_ns = 0
        self.done: asyncio.Future[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it: it is done, or was cancelled."""
        return self.done is None or self.done.done()

    @property
    def is_unanswered(self) -> bool:
        """Whether the device said nothing at all."""
        return len(self.faults) == len(self.requests) and all(
            fault is Fault.UNANSWERED for fault in self.faults.values()
        )

    @property
    def is_answered_so_far(self) -> bool:
        """Whether the device said something, and was not silent to anything yet."""
        return len(self.requests) > self.left and Fault.UNANSWERED not in self.faults.values()

    def fail_rest(self) -> None:
        """Do without what was not asked for yet."""
        for request in self.requests[self.asked :]:
            self.faults[request] = Fault.UNANSWERED
            self.left -= 1
        self.asked = len(self.requests)


_VIOLATIONS_KEPT = 8


class Conversation(asyncio.BaseProtocol):
    """Carries exchanges until it is lost. Narrowed by `Connection`, and by `Bus` where answers bear no transaction id.

    Attributes:
        has_answered: an answer ever came.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.has_answered = False
        self._name, self._clock = name, clock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Exchange] = deque()
        self._exchange: Exchange | None = None
        self._notes: list[str] = []
        self._why_lost: TidegateError | None = None
        self._closed = self._loop.create_future()

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be asked here."""
        return self._why_lost is not None

    async def carry(self, exchange: Exchange) -> None:
        """Ask for everything in an exchange, after those that were there before it.

        Raises:
            DeviceUnreachable: the connection is gone.
            DeviceRefused: the device ended it because of who we are.
            ProtocolViolation: the device sent what cannot be a Modbus answer.
        """
        if self._why_lost is not None:
            raise self._lost()
        if self._notes:
            exchange.violations += self._notes
            self._notes.clear()
        exchange.done = self._loop.create_future()
        self._accept(exchange)
        try:
            await exchange.done
        except asyncio.CancelledError:
            self._abandon(exchange)
            raise

    async def close(self) -> None:
        """Close the connection, and wait until it is."""
        self.drop(DeviceUnreachable(f"{self._name}: the connection was closed by us"))
        await asyncio.shield(self._closed)

    def drop(self, why: TidegateError) -> None:
        """End the connection now; whoever waits on it is told why."""
        if self._why_lost is None:
            self._why_lost = why
            self._transport.abort()
            self._fail_all()

    def note(self, violation: str) -> None:
        """Have something told with this scan, or with the next where none is under way."""
        notes = self._exchange.violations if self._exchange is not None else self._notes
        if len(notes) < _VIOLATIONS_KEPT:
            notes.append(violation)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by inheritance.
        self._write = self._transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._why_lost is None:
            self._why_lost = self._explain(exc)
            self._fail_all()
        if not self._closed.done():
            self._closed.set_result(None)

    def _explain(self, exc: Exception | None) -> TidegateError:
        if isinstance(exc, ssl.SSLError):
            return DeviceRefused(f"{self._name}: {explain(exc)}")
        if not self.has_answered and self._transport.get_extra_info("sslcontext") is not None:
            # With TLS 1.3 our side of the handshake is over before the device has looked at our certificate.
            return DeviceRefused(
                f"{self._name} closed the connection after the TLS handshake, without an answer: it may refuse our "
                "certificate, or have no room for one more client"
            )
        how = f"broke the connection ({exc})" if exc else "closed the connection"
        return DeviceUnreachable(f"{self._name} {how}")

    # What differs.

    def _accept(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def _abandon(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        """Cancel timers, forget what is outstanding."""
        raise NotImplementedError

    # The end.

    def _lost(self) -> TidegateError:
        why = self._why_lost
        if isinstance(why, ProtocolViolation):
            return ProtocolViolation(why.field, why.expected, why.got, why.data)
        return type(why)(str(why)) if why is not None else DeviceUnreachable(f"{self._name} is not connected")

    def _fail_all(self) -> None:
        self._stop()
        waiting = [self._exchange, *self._queue]
        self._exchange = None
        self._queue.clear()
        for exchange in waiting:
            if exchange is not None and exchange.done is not None and not exchange.done.done():
                exchange.done.set_exception(self._lost())


ConversationT = TypeVar("ConversationT", bound=Conversation)
