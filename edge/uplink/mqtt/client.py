"""The publish-only MQTT 5 client on asyncio: the one-way exit.

It sends CONNECT, PUBLISH, PINGREQ and DISCONNECT. Anything from a broker except the answers to these closes the
connection. One publish costs a few microseconds: no task, no queue, one callback. The protocol is `MqttSession`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from edge.clock import Clock
from edge.errors import BrokerUnreachable, TidegateError
from edge.mqtt.access import BrokerAccess, lost_connection, open_connection
from edge.mqtt.connect import Will
from edge.uplink.mqtt.session import MqttSession, State

_WRITE_AHEAD_BYTES = 256 * 1024


async def connect(
    access: BrokerAccess, *, clock: Clock, on_change: Callable[[], None], will: Will | None = None
) -> Publisher:
    """Open a connection and wait until the broker accepts it.

    Args:
        on_change: called after acknowledgements, when writing may go on, and when the connection has ended.

    Raises:
        BrokerUnreachable: no answer, or a certificate that we do not trust.
        BrokerRefused: the broker does not accept us, or cannot give what we need.
        ProtocolViolation: something answers that is not an MQTT broker.
        ConfigError: a TLS file cannot be used.
    """
    publisher = Publisher(access, clock, on_change)
    is_connected = False
    try:
        await open_connection(access, publisher, partial(publisher.send_connect, will))
        is_connected = True
    finally:
        # Not `is_open`: CONNACK may have arrived in the same turn of the loop as the timeout, or a cancellation.
        if not is_connected:
            publisher.abort()
    return publisher


class Publisher(asyncio.Protocol):
    """The transport of one connection: moves bytes between a socket and its session, and keeps its timer.

    Attributes:
        session: the protocol; messages are published through it.
        ended: why the connection has ended.
    """

    def __init__(self, access: BrokerAccess, clock: Clock, on_change: Callable[[], None]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        # All that is published in one turn of the loop leaves in one write.
        self.session = MqttSession(access, clock, on_output=partial(loop.call_soon, self._flush))
        self.ended: asyncio.Future[TidegateError] = loop.create_future()
        self._access, self._on_change = access, on_change
        self._transport: asyncio.Transport | None = None
        self._connack: asyncio.Future[None] = loop.create_future()
        self._is_lost = asyncio.Event()
        self._keep_alive: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether the broker has accepted the connection and it has not ended."""
        return self.session.window > 0

    async def send_connect(self, will: Will | None) -> None:
        """Send CONNECT and wait for CONNACK. Part of `connect`."""
        self.session.send_connect(will)
        await self._connack

    async def disconnect_gracefully(self, timeout_s: float = 2.0) -> None:
        """Send DISCONNECT, so that the broker does not publish our will, and close the connection."""
        if self.ended.done() or self._transport is None:
            return
        self.session.disconnect()
        self._flush()
        self._end()
        self._transport.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_lost.wait()
        except TimeoutError:
            self._transport.abort()

    def abort(self) -> None:
        """End the connection now, without a DISCONNECT."""
        self._close(BrokerUnreachable(f"{self._access.name}: connection given up"))
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        if self.ended.done():
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._is_lost.set()
        self._close(lost_connection(self._access, exc, is_accepted=self._connack.done()))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.session.is_writable = False

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.session.is_writable = True
        self._on_change()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.ended.done():
            return
        for on_answer, code in self.session.receive(data):
            on_answer(code)
        if self.session.error is not None or self._keep_alive is None:
            self._follow_state()
        self._on_change()

    def _follow_state(self) -> None:
        """Do what the state of the session asks of the transport."""
        if self.session.state is State.CLOSED:
            self._end()
            if self._transport is not None:
                self._transport.abort()
        elif self.session.state is not State.CONNECTING:
            if not self._connack.done():
                self._connack.set_result(None)
            self._keep_alive = self._loop.call_later(self.session.limits.keep_alive_s / 2, self._check_keep_alive)

    def _check_keep_alive(self) -> None:
        self.session.check_keep_alive()
        self._follow_state()

    def _close(self, why: BrokerUnreachable) -> None:
        self.session.close(why)
        self._end()

    def _end(self) -> None:
        error = self.session.error
        if error is None or self.ended.done():
            return
        self.ended.set_result(error)
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if not self._connack.done():
            self._connack.set_exception(error)
            self._connack.exception()  # The connecting task may be gone: do not log it as never retrieved.
        self._on_change()

    def _flush(self) -> None:
        output = self.session.take_output()
        if output and self._transport is not None and not self.ended.done():
            self._transport.write(output)
