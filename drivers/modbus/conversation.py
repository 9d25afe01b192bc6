"""What every way of talking to a device has in common: who waits for it, and how it ends."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TypeVar, cast

from drivers.modbus.exchange import Exchange
from drivers.modbus.tls import explain
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError

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
