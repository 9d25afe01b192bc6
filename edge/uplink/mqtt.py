"""A publish-only MQTT 5 client: the one-way exit.

It can say CONNECT, PUBLISH, PINGREQ and DISCONNECT. Whatever else a broker sends than the answers to these closes
the connection. One publish costs a few microseconds: no task, no queue, one callback.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable, ProtocolViolation, TidegateError
from edge.tls import TlsFiles, explain, load_context
from edge.uplink import packets, reasons
from edge.uplink.packets import Will
from edge.uplink.reasons import Reason
from edge.uplink.wire import Malformed, PacketType, Property, Splitter, packet_name

_WRITE_AHEAD_BYTES = 256 * 1024
_KEPT_FOR_THE_LOG_BYTES = 64
_PACKET_LIMIT_BYTES = 268_435_460  # The protocol's own (section 2.1.4): a broker that names none takes this.

Done = Callable[[int], None]
"""Told the reason code of a PUBACK; never called when the connection ends first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """Where the broker is and who we are there."""

    host: str
    port: int
    client_id: str
    tls: TlsFiles | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    keep_alive_s: int = 30
    in_flight: int = 64
    connect_timeout_s: float = 10.0

    @property
    def name(self) -> str:
        """The broker in messages."""
        return f"broker {self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """What the broker says it takes (section 3.2.2.3)."""

    receive_maximum: int = 65_535
    packet_bytes: int = _PACKET_LIMIT_BYTES
    keep_alive_s: int = 30
    is_retaining: bool = True
    topic_aliases: int = 0


async def connect(
    access: BrokerAccess, *, clock: Clock, on_change: Callable[[], None], will: Will | None = None
) -> Publisher:
    """Open a connection and wait for the broker's consent.

    Args:
        on_change: called after acknowledgements, when writing may go on, and when the connection has ended.

    Raises:
        BrokerUnreachable: nobody answers there, or nobody we trust.
        BrokerRefused: the broker does not take us, or cannot give what we need.
        ProtocolViolation: something answers that is no MQTT broker.
        ConfigError: a TLS file cannot be used.
    """
    context = await asyncio.to_thread(load_context, access.tls) if access.tls else None
    publisher = Publisher(access, clock, on_change)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(access.connect_timeout_s):
            await loop.create_connection(lambda: publisher, access.host, access.port, ssl=context)
            await publisher.greet(will)
    except TimeoutError as error:
        raise BrokerUnreachable(f"{access.name} did not answer in {access.connect_timeout_s:g} s") from error
    except ssl.SSLError as error:
        raise BrokerUnreachable(f"{access.name}: {explain(error, access.tls)}") from error
    except OSError as error:
        raise BrokerUnreachable(f"{access.name} cannot be reached: {_os_error(error)}") from error
    finally:
        if not publisher.is_open:
            publisher.abort()
    return publisher


class Publisher(asyncio.Protocol):
    """One connection to a broker, from its consent to its end."""

    def __init__(self, access: BrokerAccess, clock: Clock, on_change: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.limits = BrokerLimits(keep_alive_s=access.keep_alive_s)
        self.ended: asyncio.Future[TidegateError] = loop.create_future()
        self.heard_at_ns = clock.boot_ns()
        self._answered_at_ns = self.heard_at_ns
        self._access, self._clock, self._on_change, self._loop = access, clock, on_change, loop
        self._transport: asyncio.Transport | None = None
        self._consent: asyncio.Future[None] = loop.create_future()
        self._splitter = Splitter(packets.INBOUND_LIMIT_BYTES, packets.INBOUND_FIRST_BYTES)
        self._in_flight: dict[int, tuple[Done, packets.PublishTopic]] = {}
        self._window = 0
        self._topics: dict[str, packets.PublishTopic] = {}
        self._packet_id = 0
        self._unwritten: list[bytes] = []
        self._is_paused = False
        self._gone = asyncio.Event()
        self._keep_alive: asyncio.TimerHandle | None = None
        self._is_ping_unanswered = False

    @property
    def is_open(self) -> bool:
        """Whether the broker has consented and the connection has not ended."""
        return self._window > 0 and not self.ended.done()

    @property
    def window(self) -> int:
        """How many messages may be unacknowledged at once."""
        return self._window

    @property
    def in_flight(self) -> int:
        """How many messages are unacknowledged."""
        return len(self._in_flight)

    @property
    def may_publish(self) -> bool:
        """Whether the window has room and the transport takes more."""
        return len(self._in_flight) < self._window and not self._is_paused and not self.ended.done()

    def packet_bytes(self, topic: str, payload_bytes: int) -> int:
        """An upper bound of the packet that publishing would send, to be held against `limits.packet_bytes`."""
        return payload_bytes + len(topic.encode()) + 16

    def publish(self, topic: str, payload: bytes, done: Done, *, is_retained: bool = False) -> None:
        """Send one message with QoS 1; `may_publish` must hold."""
        known = self._topics.get(topic) or self._add_topic(topic)
        packet_id = self._packet_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self._in_flight:
                break
        self._packet_id = packet_id
        if not self._in_flight:
            self._answered_at_ns = self._clock.boot_ns()
        self._in_flight[packet_id] = done, known
        retain = is_retained and self.limits.is_retaining
        self._write(known.encode_head(packet_id, len(payload), is_retained=retain))
        self._unwritten.append(payload)

    async def greet(self, will: Will | None) -> None:
        """Send CONNECT and wait for consent. Part of `connect`."""
        access = self._access
        self._write(
            packets.encode_connect(access.client_id, access.keep_alive_s, will, access.username, access.password)
        )
        await self._consent

    async def disconnect(self, timeout_s: float = 2.0) -> None:
        """Say good-bye, so that the broker does not say our will."""
        if self.ended.done() or self._transport is None:
            return
        self._write(packets.encode_disconnect())
        self._flush()
        self._end(BrokerUnreachable(f"{self._access.name}: disconnected"))
        self._transport.close()
        try:
            await asyncio.wait_for(self._gone.wait(), timeout_s)
        except TimeoutError:
            self._transport.abort()

    def abort(self) -> None:
        """End the connection now, without a word."""
        self._end(BrokerUnreachable(f"{self._access.name}: connection given up"))
        if self._transport is not None:
            self._transport.abort()

    # What the transport tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        if self.ended.done():
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._gone.set()
        name = self._access.name
        if isinstance(exc, ssl.SSLError):
            why = explain(exc, self._access.tls)
        elif not self._consent.done():
            why = "it closed the connection without an answer; it may not speak MQTT 5, or not accept our certificate"
        elif exc is None:
            why = "it closed the connection"
        else:
            why = f"connection lost: {_os_error(exc)}"
        self._end(BrokerUnreachable(f"{name}: {why}"))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_paused = False
        self._on_change()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.ended.done():
            return
        self.heard_at_ns = self._clock.boot_ns()
        self._is_ping_unanswered = False
        packet = b""
        try:
            for first_byte, packet in self._splitter.feed(data):
                self._take(first_byte, packet)
                if self.ended.done():
                    return
        except Malformed as error:
            self._refuse("packet", "MQTT 5", str(error), packet or data)
        self._on_change()

    # What the broker tells us.

    def _take(self, first_byte: int, body: bytes) -> None:
        if not self._consent.done():
            self._take_first(first_byte, body)
        elif first_byte == PacketType.PUBACK << 4:
            self._take_puback(body)
        elif first_byte == PacketType.PINGRESP << 4 and not body:
            return
        elif first_byte == PacketType.DISCONNECT << 4:
            code, words = packets.decode_disconnect(body)
            said = f': "{words}"' if words else ""
            self._end(BrokerRefused(f"{self._access.name} {reasons.explain(code)}{said}", code))
            self._close()
        else:
            expected = "PUBACK, PINGRESP or DISCONNECT"
            self._refuse("packet", expected, packet_name(first_byte), bytes((first_byte,)) + body)

    def _take_puback(self, body: bytes) -> None:
        packet_id, code = packets.decode_puback(body)
        sent = self._in_flight.get(packet_id)
        if sent is None:
            self._refuse("PUBACK", "an identifier in flight", packet_id, body)
            return
        if code < 0x80 and code not in (Reason.SUCCESS, Reason.NO_MATCHING_SUBSCRIBERS):
            self._refuse("PUBACK", "a reason code", f"0x{code:02X}", body)
            return
        del self._in_flight[packet_id]
        self._answered_at_ns = self.heard_at_ns
        done, topic = sent
        if code < 0x80 and topic.alias:
            topic.is_alias_known = True
        done(code)

    def _take_first(self, first_byte: int, body: bytes) -> None:
        name = self._access.name
        if first_byte != PacketType.CONNACK << 4:
            self._refuse("packet", "CONNACK", packet_name(first_byte), bytes((first_byte,)) + body)
        elif len(body) == 2:  # MQTT 3.1.1 knows no properties.
            code = Reason.UNSUPPORTED_PROTOCOL_VERSION
            self._end(
                BrokerRefused(f"{name} does not speak MQTT 5; without it a refusal would look like success", code)
            )
            self._close()
        else:
            connack = packets.decode_connack(body)
            refusal = _refusal(connack)
            if refusal is None:
                self._accept(connack)
            else:
                self._end(BrokerRefused(f"{name} {refusal[0]}", refusal[1]))
                self._close()

    def _accept(self, connack: packets.Connack) -> None:
        said = connack.properties.get
        asked_s = self._access.keep_alive_s
        self.limits = BrokerLimits(
            receive_maximum=said(Property.RECEIVE_MAXIMUM, 65_535),
            packet_bytes=said(Property.MAXIMUM_PACKET_SIZE, _PACKET_LIMIT_BYTES),
            keep_alive_s=said(Property.SERVER_KEEP_ALIVE, asked_s) or asked_s,
            is_retaining=bool(said(Property.RETAIN_AVAILABLE, 1)),
            topic_aliases=said(Property.TOPIC_ALIAS_MAXIMUM, 0),
        )
        self._window = min(self._access.in_flight, self.limits.receive_maximum)
        self._consent.set_result(None)
        self._keep_alive = self._loop.call_later(self.limits.keep_alive_s / 2, self._check_alive, self.heard_at_ns)

    def _check_alive(self, heard_at_ns: int) -> None:
        # A stopped broker keeps its connection open and takes bytes for a while: only an answer proves it alive.
        if self._in_flight and self._clock.boot_ns() - self._answered_at_ns > 2 * self.limits.keep_alive_s * 10**9:
            self._end(BrokerUnreachable(f"{self._access.name} answers pings but acknowledges nothing"))
            self._close()
            return
        if heard_at_ns == self.heard_at_ns:
            if self._is_ping_unanswered:
                self._end(BrokerUnreachable(f"{self._access.name} stopped answering"))
                self._close()
                return
            self._is_ping_unanswered = True
            self._write(packets.PINGREQ)
        self._keep_alive = self._loop.call_later(self.limits.keep_alive_s / 2, self._check_alive, self.heard_at_ns)

    def _add_topic(self, topic: str) -> packets.PublishTopic:
        used = len(self._topics)
        known = packets.PublishTopic(topic, used + 1 if used < self.limits.topic_aliases else 0)
        self._topics[topic] = known
        return known

    def _write(self, data: bytes) -> None:
        if not self._unwritten:
            # All that is published in one turn of the loop leaves in one write.
            self._loop.call_soon(self._flush)
        self._unwritten.append(data)

    def _flush(self) -> None:
        if self._unwritten and self._transport is not None and not self.ended.done():
            self._transport.write(b"".join(self._unwritten))
        self._unwritten.clear()

    def _refuse(self, what: str, expected: str, got: object, data: bytes) -> None:
        kept = data[:_KEPT_FOR_THE_LOG_BYTES]
        self._end(ProtocolViolation(f"{self._access.name}: {what}", expected, got, kept))
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: TidegateError) -> None:
        if self.ended.done():
            return
        self.ended.set_result(error)
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if not self._consent.done():
            self._consent.set_exception(error)
            # The connecting task may be gone already; then nobody is left to be told.
            self._consent.exception()
        self._on_change()


def _refusal(connack: packets.Connack) -> tuple[str, int] | None:
    """Why this consent is none, with its reason code."""
    code = connack.reason_code
    if code:
        return f"refused the connection: it {reasons.explain(code)}", code
    if connack.has_session:
        raise Malformed("CONNACK has a session although a clean start was asked for")
    if 0 in (connack.properties.get(Property.RECEIVE_MAXIMUM), connack.properties.get(Property.MAXIMUM_PACKET_SIZE)):
        raise Malformed("CONNACK has a limit of 0")
    if not connack.properties.get(Property.MAXIMUM_QOS, 1):
        return "takes QoS 0 only: without acknowledgements nothing could count as delivered", 0x9B
    return None


def _os_error(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
