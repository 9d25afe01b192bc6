"""A connection of the relay to a broker: accepted, kept alive, and ended with a reason.

What is received and published on it is in `receive.py` and `publish.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable, ConfigError, ErrorCode
from edge.mqtt.access import BrokerAccess, lost_connection, open_connection
from edge.mqtt.codec import (
    INBOUND_FIRST_BYTES,
    PINGREQ,
    MalformedPacket,
    PacketType,
    Properties,
    Property,
    Splitter,
    decode_disconnect,
    encode_disconnect,
    packet_name,
)
from edge.mqtt.connect import BrokerLimits, decode_connack, encode_connect
from edge.mqtt.reason_codes import Reason, explain

RETRY_LIMIT_NS = 30 * 10**9
_WRITE_AHEAD_BYTES = 256 * 1024
_SAME_NAME = "another client may have the same name or certificate: a second relay, or a view that has none of its own"
_FOR_LONG = (Reason.SESSION_TAKEN_OVER, Reason.USE_ANOTHER_SERVER, Reason.SERVER_MOVED)


class Reconnecting:
    """When to connect again: two clients of one name must not take the session from each other each second.

    Many brokers, such as mosquitto 2.0.11, close the older of two such connections without a reason. Only a connection
    that lasted is therefore a success after which the next attempt is an early one again.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._backoff = Backoff(random, limit_ns=RETRY_LIMIT_NS)
        self._connected_ns: int | None = None
        self._short = 0

    def connected(self) -> None:
        """The broker has accepted the connection."""
        self._connected_ns = self._clock.boot_ns()

    def lost(self, error: BrokerRefused | BrokerUnreachable) -> tuple[str, float]:
        """Why there is no connection, and how many seconds to wait."""
        connected_ns, self._connected_ns = self._connected_ns, None
        reason = str(error)
        if connected_ns is not None and self._clock.boot_ns() - connected_ns >= RETRY_LIMIT_NS:
            self._short = 0
            self._backoff.reset()
        elif connected_ns is not None:
            self._short += 1
            if self._short > 1 and isinstance(error, BrokerUnreachable):
                reason += f", {self._short} times in a row soon after it was accepted; {_SAME_NAME}"
        return reason, self._backoff.next_ns(at_limit=error.is_for_long) / 1e9


class Connection(asyncio.Protocol):
    """One connection, from CONNECT to its end; a subclass takes the packets of its kind in `take`.

    Attributes:
        limits: what the broker announced.
        ended: why the connection has ended; pending until then.
        transport: None before the connection is made.
    """

    first_bytes = INBOUND_FIRST_BYTES
    packet_bytes = 16_384

    def __init__(self, access: BrokerAccess) -> None:
        loop = asyncio.get_running_loop()
        self.access = access
        self.limits = BrokerLimits(keep_alive_s=access.keep_alive_s)
        self.ended: asyncio.Future[BrokerRefused | BrokerUnreachable] = loop.create_future()
        self.transport: asyncio.Transport | None = None
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._is_lost = asyncio.Event()
        self._splitter = Splitter(self.packet_bytes, self.first_bytes)
        self._keep_alive: asyncio.TimerHandle | None = None
        self._has_heard = self._is_reading = self._is_writable = True
        self._change: asyncio.Future[None] = loop.create_future()

    def take(self, first_byte: int, body: bytes) -> None:  # noqa: ARG002 - a subclass looks at it.
        """A packet that is not part of every connection. Raises `MalformedPacket`."""
        raise MalformedPacket(f"{packet_name(first_byte)} is not expected here")

    def take_at_once(self, data: bytes) -> bool:  # noqa: ARG002
        """Take whole packets without cutting them apart; False where that cannot be done."""
        return False

    def write(self, data: bytes) -> None:
        """Send packets; without a connection they are dropped."""
        if self.transport is not None and not self.ended.done():
            self.transport.write(data)

    def read(self, *, is_reading: bool) -> None:
        """Read on, or read nothing until then."""
        if is_reading == self._is_reading or self.transport is None or self.transport.is_closing():
            return
        self._is_reading, self._has_heard = is_reading, True
        if is_reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    async def wait_for_change(self) -> None:
        """Wait until something was received or writing may go on. Raises when the connection is lost; for one task."""
        self.check()
        self._change = asyncio.get_running_loop().create_future()
        await self._change
        self.check()

    async def wait_until_writable(self) -> None:
        """Wait until the transport takes more. Raises when the connection is lost."""
        while not self._is_writable:
            await self.wait_for_change()

    async def wait_for(self, event: asyncio.Event) -> None:
        """Wait until an event is set. Raises when the connection is lost before."""
        is_set = asyncio.ensure_future(event.wait())
        waiting: set[asyncio.Future[Any]] = {is_set, self.ended}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_set.cancel()
        self.check()

    def check(self) -> None:
        """Raise why the connection has ended, if it has."""
        if self.ended.done():
            raise self.ended.result()

    async def introduce(self, properties: Properties, *, is_clean: bool) -> None:
        """Send CONNECT, and wait until it is accepted. Raises as `connected`."""
        self.write(encode_connect(self.access, properties, is_clean=is_clean))
        await self._accepted

    async def close(self) -> None:
        """Send DISCONNECT and close; what has not left after a short while is dropped."""
        if self.transport is None:
            return
        if not self.ended.done():
            self.write(encode_disconnect())
            self._end(BrokerUnreachable(f"{self.access.name}: disconnected"))
        self.transport.close()
        try:
            async with asyncio.timeout(2.0):
                await self._is_lost.wait()
        except TimeoutError:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._is_lost.set()
        self._end(lost_connection(self.access, exc, is_accepted=self._accepted.done()))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_writable = True
        self._note_change()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._has_heard = True
        try:
            if self._accepted.done() and self._splitter.is_empty and self.take_at_once(data):
                data = b""
            for first_byte, body in self._splitter.feed(data):
                if self.ended.done():
                    break
                self._take(first_byte, body)
        except MalformedPacket as error:
            self.fail(BrokerUnreachable(f"{self.access.name} sent what is not MQTT 5: {error}"))
        self._note_change()

    def _take(self, first_byte: int, body: bytes) -> None:
        if not self._accepted.done() and first_byte != PacketType.CONNACK << 4:
            raise MalformedPacket(f"{packet_name(first_byte)} before CONNACK")
        if first_byte == PacketType.DISCONNECT << 4:
            self.fail(self._refusal("ended the connection", *decode_disconnect(body)))
        elif first_byte == PacketType.CONNACK << 4 and not self._accepted.done():
            self._take_connack(body)
        elif first_byte != PacketType.PINGRESP << 4 or body:
            self.take(first_byte, body)

    def _take_connack(self, body: bytes) -> None:
        if len(body) == 2:  # MQTT 3.1.1 knows no properties.
            text = f"{self.access.name} does not speak MQTT 5"
            self.fail(BrokerRefused(text, Reason.UNSUPPORTED_PROTOCOL_VERSION))
            return
        connack = decode_connack(body)
        if connack.reason_code:
            self.fail(self._refusal("refuses the relay", connack.reason_code, connack.properties))
            return
        self.limits = BrokerLimits.of(connack, self.access.keep_alive_s)
        self._accepted.set_result(None)
        self._check_keep_alive()

    def _refusal(self, what: str, code: int, properties: Properties) -> BrokerRefused | BrokerUnreachable:
        """What a reason code means: waiting heals a connection that was ended, unless the code asks for a person."""
        said = explain(code, properties.get(Property.SERVER_REFERENCE, ""), properties.get(Property.REASON_STRING, ""))
        if code == Reason.SESSION_TAKEN_OVER:
            said = f"gave the session to another client (0x8E); {_SAME_NAME}"
        text = f"{self.access.name} {what}: it {said}"
        if self._accepted.done() and code not in _FOR_LONG:
            return BrokerUnreachable(text)
        return BrokerRefused(text, code)

    def _check_keep_alive(self) -> None:
        """Ping twice in each keep-alive, and close where nothing came since the last ping (section 3.1.2.10)."""
        # Whatever else was sent meanwhile: a relay that only receives messages of QoS 0 sends nothing itself.
        if not self._has_heard and self._is_reading:
            self.fail(BrokerUnreachable(f"{self.access.name} stopped answering"))
            return
        self._has_heard = False
        self.write(PINGREQ)
        wait_s = self.limits.keep_alive_s / 2
        self._keep_alive = asyncio.get_running_loop().call_later(wait_s, self._check_keep_alive)

    def _note_change(self) -> None:
        if not self._change.done():
            self._change.set_result(None)

    def fail(self, error: BrokerRefused | BrokerUnreachable) -> None:
        """End the connection at once."""
        self._end(error)
        if self.transport is not None:
            self.transport.abort()

    def _end(self, error: BrokerRefused | BrokerUnreachable) -> None:
        if self.ended.done():
            return
        self.ended.set_result(error)
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if not self._accepted.done():
            self._accepted.set_exception(error)
            self._accepted.exception()  # The connecting task may be gone: do not log it as never retrieved.
        self._note_change()


ConnectionT = TypeVar("ConnectionT", bound=Connection)


@asynccontextmanager
async def connected(connection: ConnectionT, properties: Properties, *, is_clean: bool) -> AsyncIterator[ConnectionT]:
    """Connect, and close at the end of the block.

    Raises:
        BrokerUnreachable: no answer, TLS files that cannot be used, or the connection is lost later.
        BrokerRefused: the broker refuses the connection, or ends it with a reason that needs a person.
    """
    try:
        introduce = partial(connection.introduce, properties, is_clean=is_clean)
        await open_connection(connection.access, connection, introduce)
        yield connection
    except ConfigError as error:
        raise BrokerUnreachable(str(error), code=ErrorCode.BROKER_NOT_TRUSTED) from error
    finally:
        await connection.close()
