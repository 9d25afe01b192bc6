"""The embedded broker, with faults to order and a record of what it received."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge.demo import broker_packets as packets
from edge.demo.broker import Broker, Connection
from edge.demo.broker_packets import Message, TopicSubscription
from edge.demo.broker_session import BrokerSession
from edge.mqtt.codec import PacketType, encode_properties, packet
from edge.mqtt.reason_codes import Reason

Answer = Callable[[Message, int], int | None]
"""The reason code for the n-th publish of all (from 1); None for no answer."""


@dataclass(slots=True, kw_only=True)
class Script:
    """How the broker behaves; may be changed at any time.

    Attributes:
        connack: reason code of CONNACK.
        properties: what CONNACK announces, over the broker's own; None removes one of those.
        answer: reason code for a publish; without a function, subscriptions and quota decide.
        cut_after_received: close a connection once it has received so many bytes.
        cut_after_sent: close a connection once it was sent so many bytes; the rest is not sent.
        is_mute: read and answer nothing.
        holds_suback: do not answer a subscription; messages of the session are sent all the same.
        is_old: answer as a broker that knows only MQTT 3.1.1.
    """

    connack: int = 0
    properties: dict[int, Any] = field(default_factory=dict)
    answer: Answer | None = None
    cut_after_received: int | None = None
    cut_after_sent: int | None = None
    is_mute: bool = False
    holds_suback: bool = False
    is_old: bool = False


class FaultyBroker(Broker):
    """A broker that follows a script.

    Attributes:
        script: how it behaves.
        received: inbound packets by type name.
        received_from: the same by client identifier.
        on_publish: called with each accepted message and its publisher.
        sent_bytes: what was sent on the connection that was written to last.
    """

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.script = Script()
        self.received: Counter[str] = Counter()
        self.received_from: dict[str, Counter[str]] = {}
        self.on_publish: Callable[[str, Message], None] | None = None
        self.sent_bytes = 0
        self._publishes = 0
        self._saved: dict[int, Message] = {}

    async def kill(self) -> None:
        """Close without a DISCONNECT; what was accepted since `save` is lost."""
        await self._close(None)
        for session in self._sessions.values():
            session.waiting = deque(each for each in session.waiting if id(each[0]) in self._saved)
            kept = {key: each for key, each in session.unacknowledged.items() if id(each[0]) in self._saved}
            session.unacknowledged = kept
        self.retained = {topic: message for topic, message in self.retained.items() if id(message) in self._saved}

    def save(self) -> None:
        """Keep everything accepted so far through a `kill`."""
        messages = list(self.retained.values())
        for session in self._sessions.values():
            messages += [message for message, _, _ in session.waiting]
            messages += [message for message, _ in session.unacknowledged.values()]
        self._saved = {id(message): message for message in messages}

    def refer_clients(self, code: int, server: str) -> None:
        """Say goodbye with a reference to another server (MQTT 5.0, section 3.14.2.2.5)."""
        self.inject(packet(PacketType.DISCONNECT << 4, bytes((code,)), encode_properties({28: server})))

    def inject(self, data: bytes) -> None:
        """Send any bytes to every client."""
        for connection in self._connections:
            connection.write(data)

    def count(self, client_id: str, kind: str) -> None:
        """A packet was received."""
        self.received[kind] += 1
        self.received_from.setdefault(client_id, Counter())[kind] += 1
        self.changed.set()

    def publish(self, client_id: str, message: Message) -> int | None:
        """See `Broker.publish`."""
        self._publishes += 1
        if self.script.answer is None:
            return super().publish(client_id, message)
        code = self.script.answer(message, self._publishes)
        if code is None or code >= 0x80:
            return code
        is_full = super().publish(client_id, message) == Reason.QUOTA_EXCEEDED
        return Reason.QUOTA_EXCEEDED if is_full else code

    def _make_connection(self) -> Connection:
        return _FaultyConnection(self)

    def _distribute(
        self, client_id: str, message: Message, receivers: list[tuple[BrokerSession, TopicSubscription]]
    ) -> None:
        if self.on_publish is not None:
            self.on_publish(client_id, message)
        super()._distribute(client_id, message, receivers)


class _FaultyConnection(Connection):
    _broker: FaultyBroker

    def __init__(self, broker: FaultyBroker) -> None:
        super().__init__(broker)
        self._received_bytes = self._sent_bytes = 0

    def write(self, data: bytes) -> None:
        transport, cut = self._transport, self._broker.script.cut_after_sent
        if transport is None or transport.is_closing():
            return
        if self._broker.script.holds_suback and data[0] >> 4 == PacketType.SUBACK:
            return
        if cut is not None and self._sent_bytes + len(data) >= cut:
            transport.write(data[: cut - self._sent_bytes])
            transport.close()
            return
        self._sent_bytes += len(data)
        self._broker.sent_bytes = self._sent_bytes
        transport.write(data)

    def data_received(self, data: bytes) -> None:
        script = self._broker.script
        if script.is_mute or self._transport is None or self._transport.is_closing():
            return
        cut = script.cut_after_received
        if cut is not None:
            data = data[: cut - self._received_bytes]
        self._received_bytes += len(data)
        super().data_received(data)
        if cut is not None and self._received_bytes >= cut:
            self.close()

    def _receive(self, first_byte: int, body: bytes) -> None:
        kind = first_byte >> 4
        name = PacketType(kind).name if kind else "RESERVED"
        if kind != PacketType.CONNECT:
            self._broker.count(self.client_id, name)
        super()._receive(first_byte, body)
        if kind == PacketType.CONNECT:  # Before it, the client's identifier is not known.
            self._broker.count(self.client_id, name)
        self._broker.changed.set()

    def _receive_connect(self, body: bytes) -> None:
        script = self._broker.script
        if script.is_old:
            self._refuse(packets.CONNACK_OF_MQTT_3)
        elif script.connack:
            self._refuse(packets.encode_connack(script.connack, has_session=False, properties=script.properties))
        else:
            super()._receive_connect(body)

    def _limits(self) -> dict[int, int]:
        limits = super()._limits() | self._broker.script.properties
        return {key: value for key, value in limits.items() if value is not None}
