"""An MQTT 5 broker in this process, for the demo.

QoS 0 and 1, retained messages, wildcards, shared subscriptions, persistent sessions in memory, wills, keep-alive and
flow control. It is not a broker for a plant. Tests make it misbehave in `tests/support/faulty_broker.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Self, cast

from edge.demo import broker_packets as packets
from edge.demo.broker_packets import Connect, Message, TopicSubscription
from edge.demo.broker_session import BrokerSession, is_filter, is_match
from edge.mqtt.codec import MalformedPacket, PacketType, Property, Splitter
from edge.mqtt.reason_codes import Reason

_PACKET_LIMIT_BYTES = 1024 * 1024
_LIMITS: Mapping[int, int] = {
    Property.RECEIVE_MAXIMUM: 64,
    Property.MAXIMUM_QOS: 1,
    Property.MAXIMUM_PACKET_SIZE: _PACKET_LIMIT_BYTES,
    Property.TOPIC_ALIAS_MAXIMUM: 16,
    Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
}


class Connection(asyncio.Protocol):
    """One client's connection: reads its packets and writes the answers."""

    def __init__(self, broker: Broker) -> None:
        self.client_id = ""
        self.session: BrokerSession | None = None
        self.receive_maximum = 65_535
        self.packet_limit_bytes = 2**32
        self._broker = broker
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter(_PACKET_LIMIT_BYTES)
        self._aliases: dict[int, str] = {}
        self._is_paused = False
        self.will: Message | None = None
        self._will_delay_s = 0
        self._keep_alive_s = 0.0
        self._keep_alive: asyncio.TimerHandle | None = None
        self._has_received = False

    @property
    def is_writable(self) -> bool:
        """Whether the transport accepts more."""
        return not self._is_paused

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self, reason_code: int | None = None) -> None:
        """End the connection, with a DISCONNECT or at once."""
        if self._transport is None:
            return
        if reason_code is None:
            self._transport.abort()
        else:
            self.write(packets.encode_disconnect(reason_code))
            self._transport.close()
        self._leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._broker.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See `asyncio.Protocol`."""
        self._transport = None
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._leave()
        self._broker.closed(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_paused = False
        if self.session is not None:
            self.session.pump()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._transport is None or self._transport.is_closing():
            return
        self._has_received = True
        try:
            for first_byte, body in self._splitter.feed(data):
                self._receive(first_byte, body)
        except MalformedPacket:
            self.close(Reason.MALFORMED_PACKET)

    def _receive(self, first_byte: int, body: bytes) -> None:
        kind, flags = first_byte >> 4, first_byte & 0x0F
        name = PacketType(kind).name if kind else "RESERVED"
        if (self.session is None) != (kind == PacketType.CONNECT):
            raise MalformedPacket(f"{name} out of turn")
        if kind == PacketType.CONNECT:
            self._receive_connect(body)
        session = self.session
        if session is None or kind == PacketType.CONNECT:
            return
        if kind == PacketType.PUBLISH:
            self._receive_publish(flags, body)
        elif kind == PacketType.PUBACK:
            session.acknowledged(packets.decode_puback(body)[0])
        elif kind == PacketType.SUBSCRIBE:
            self._receive_subscribe(session, body)
        elif kind == PacketType.UNSUBSCRIBE:
            self._receive_unsubscribe(session, body)
        elif kind == PacketType.PINGREQ:
            self.write(packets.PINGRESP)
        elif kind == PacketType.DISCONNECT:
            self._receive_disconnect(session, body)
        else:
            raise MalformedPacket(f"{name} is not offered")

    def _receive_connect(self, body: bytes) -> None:
        connect = packets.decode_connect(body)
        if connect.version != 5:
            self._refuse(packets.CONNACK_OF_MQTT_3)
            return
        self.client_id = connect.client_id or f"client-{id(self):x}"
        limits = self._limits()
        assigned = {} if connect.client_id else {Property.ASSIGNED_CLIENT_IDENTIFIER: self.client_id}
        asked = connect.properties.get
        self.receive_maximum = asked(Property.RECEIVE_MAXIMUM, 65_535)
        self.packet_limit_bytes = asked(Property.MAXIMUM_PACKET_SIZE, 2**32)
        self.will, self._will_delay_s = connect.will, connect.will_delay_s
        connect = replace(connect, client_id=self.client_id)
        has_session = self._broker.enter(self, connect, asked(Property.SESSION_EXPIRY, 0))
        self.write(packets.encode_connack(0, has_session=has_session, properties=limits | assigned))
        self._keep_alive_s = limits.get(Property.SERVER_KEEP_ALIVE, connect.keep_alive_s) * 1.5
        if self._keep_alive_s:
            self._start_keep_alive()
        if self.session is not None:
            self.session.connected(self)

    def _receive_publish(self, flags: int, body: bytes) -> None:
        packet_id, message = packets.decode_publish(flags, body, self._aliases)
        code = self._broker.publish(self.client_id, message)
        if message.qos and code is not None:
            self.write(packets.encode_puback(packet_id, code))

    def _receive_subscribe(self, session: BrokerSession, body: bytes) -> None:
        packet_id, wanted = packets.decode_subscribe(body)
        # The answer goes first: some clients accept no packet before it.
        session.is_held = True
        codes = [self._broker.subscribe(session, subscription) for subscription in wanted]
        self.write(packets.encode_answer(PacketType.SUBACK, packet_id, codes))
        session.is_held = False
        session.pump()

    def _receive_unsubscribe(self, session: BrokerSession, body: bytes) -> None:
        packet_id, filters = packets.decode_unsubscribe(body)
        codes = [0x00 if session.subscriptions.pop(name, None) else 0x11 for name in filters]
        self.write(packets.encode_answer(PacketType.UNSUBACK, packet_id, codes))

    def _receive_disconnect(self, session: BrokerSession, body: bytes) -> None:
        code, properties = packets.decode_disconnect(body)
        session.expiry_s = properties.get(Property.SESSION_EXPIRY, session.expiry_s)
        if code == 0:
            self.will = None
        self._end()

    def _start_keep_alive(self) -> None:
        self._has_received = False
        self._keep_alive = asyncio.get_running_loop().call_later(self._keep_alive_s, self._check_keep_alive)

    def _check_keep_alive(self) -> None:
        if self._has_received:
            self._start_keep_alive()
        else:
            self.close(Reason.KEEP_ALIVE_TIMEOUT)

    def _limits(self) -> dict[int, int]:
        """The properties of CONNACK."""
        return dict(_LIMITS)

    def _refuse(self, connack: bytes) -> None:
        self.write(connack)
        self._end()

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None and session.outlet is self:
            self._broker.leave(session, self.will, self._will_delay_s)


class Broker:
    """A broker on loopback.

    Attributes:
        retained: the retained messages by topic.
        changed: set when a connection comes or goes.
    """

    def __init__(self, *, port: int = 0) -> None:
        self.retained: dict[str, Message] = {}
        self.host, self.port = "127.0.0.1", port
        self.changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._sessions: dict[str, BrokerSession] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._turn = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        for timer in self._expiries.values():
            timer.cancel()

    async def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make_connection, self.host, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Disconnect all clients and close; sessions and retained messages stay for the next start."""
        await self._close(Reason.SERVER_SHUTTING_DOWN)

    def disconnect_clients(self, reason_code: int | None = None) -> None:
        """End every connection, with a DISCONNECT or without."""
        for connection in list(self._connections):
            connection.close(reason_code)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked whenever `changed` is set."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        self.changed.set()

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self.changed.set()

    def enter(self, connection: Connection, connect: Connect, expiry_s: int) -> bool:
        """A client was accepted: give it its session. True when it had one."""
        for other in list(self._connections):
            if other is not connection and other.client_id == connect.client_id:
                other.close(Reason.SESSION_TAKEN_OVER)
        if (timer := self._expiries.pop(connect.client_id, None)) is not None:
            timer.cancel()
        known = None if connect.is_clean else self._sessions.get(connect.client_id)
        connection.session = known or BrokerSession(connect.client_id)
        connection.session.expiry_s = expiry_s
        self._sessions[connect.client_id] = connection.session
        return known is not None

    def leave(self, session: BrokerSession, will: Message | None, will_delay_s: int) -> None:
        """A client has disconnected."""
        session.outlet = None
        loop = asyncio.get_running_loop()
        if will is not None:
            delay_s = min(will_delay_s, session.expiry_s)
            if delay_s:
                loop.call_later(delay_s, self._publish_will, session, will)
            else:
                self.distribute(session.client_id, will)
        if session.expiry_s == 0:
            self._expire(session)
        elif session.expiry_s < 0xFFFFFFFF:
            self._expiries[session.client_id] = loop.call_later(session.expiry_s, self._expire, session)

    def publish(self, client_id: str, message: Message) -> int | None:
        """Accept a message; the reason code for its publisher, None for no answer."""
        receivers = self._receivers(client_id, message.topic)
        if any(session.is_full for session, _ in receivers):
            return Reason.QUOTA_EXCEEDED
        self._distribute(client_id, message, receivers)
        return Reason.SUCCESS if receivers else Reason.NO_MATCHING_SUBSCRIBERS

    def distribute(self, client_id: str, message: Message) -> None:
        """Give a message to its subscribers."""
        self._distribute(client_id, message, self._receivers(client_id, message.topic))

    def _make_connection(self) -> Connection:
        return Connection(self)

    def _distribute(
        self,
        client_id: str,  # noqa: ARG002 - for brokers that report it
        message: Message,
        receivers: list[tuple[BrokerSession, TopicSubscription]],
    ) -> None:
        if message.is_retained:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        for session, subscription in receivers:
            is_retained = message.is_retained and subscription.is_retain_as_published
            session.enqueue(message, min(message.qos, subscription.qos), is_retained=is_retained)

    def subscribe(self, session: BrokerSession, wanted: TopicSubscription) -> int:
        """Add a subscription and send the retained messages for it; the granted QoS or a reason code."""
        _, topic_filter = _split_shared(wanted.filter)
        if not is_filter(topic_filter):
            return Reason.TOPIC_FILTER_INVALID
        is_new = wanted.filter not in session.subscriptions
        session.subscriptions[wanted.filter] = wanted
        is_shared = wanted.filter != topic_filter
        if not is_shared and (wanted.retain_handling == 0 or (wanted.retain_handling == 1 and is_new)):
            for topic, message in self.retained.items():
                if is_match(topic_filter, topic):
                    session.enqueue(message, min(message.qos, wanted.qos), is_retained=True)
        return wanted.qos

    def _receivers(self, client_id: str, topic: str) -> list[tuple[BrokerSession, TopicSubscription]]:
        """Each session once, with its subscription of the highest QoS; of a shared one, a single member in turn."""
        found: list[tuple[BrokerSession, TopicSubscription]] = []
        shared: dict[str, list[tuple[BrokerSession, TopicSubscription]]] = {}
        for session in self._sessions.values():
            best: TopicSubscription | None = None
            for name, subscription in session.subscriptions.items():
                group, topic_filter = _split_shared(name)
                if not is_match(topic_filter, topic) or (subscription.is_no_local and session.client_id == client_id):
                    continue
                if group:
                    shared.setdefault(name, []).append((session, subscription))
                elif best is None or subscription.qos > best.qos:
                    best = subscription
            if best is not None:
                found.append((session, best))
        for members in shared.values():
            present = [member for member in members if member[0].outlet is not None] or members
            self._turn += 1
            found.append(present[self._turn % len(present)])
        return found

    def _publish_will(self, session: BrokerSession, will: Message) -> None:
        if session.outlet is None:
            self.distribute(session.client_id, will)

    def _expire(self, session: BrokerSession) -> None:
        if self._sessions.get(session.client_id) is session and session.outlet is None:
            del self._sessions[session.client_id]
        self._expiries.pop(session.client_id, None)

    async def _close(self, reason_code: int | None) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in self._connections:
            connection.will = None  # The broker ends the connections, not the clients.
        self.disconnect_clients(reason_code)
        await self.wait_until(lambda: not self._connections)
        await server.wait_closed()


def _split_shared(name: str) -> tuple[str, str]:
    """(share name, topic filter) of a subscription; no share name for an ordinary one (section 4.8.2)."""
    if not name.startswith("$share/"):
        return "", name
    _, group, *rest = name.split("/", 2)
    return group, rest[0] if rest else ""
