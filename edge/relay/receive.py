"""Receiving: the only subscription there is.

A record is acknowledged to the broker only after the caller has made it durable. The session is persistent: the broker
holds messages for a relay that is away and delivers them when it returns, and messages that were not acknowledged are
delivered again.

Of a relay with a list of gateways the session holds what earlier lists named too. It subscribes to its own first, then
lets go of the topics of all, and of those of another gateway when a message of that one shows that they are held:
what comes meanwhile is kept like any other, because no other relay may have been subscribed when it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from edge.errors import BrokerRefused, BrokerUnreachable, ErrorCode
from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import (
    INBOUND_FIRST_BYTES,
    MalformedPacket,
    PacketReader,
    PacketType,
    Property,
    encode_properties,
    encode_text,
    packet,
)
from edge.mqtt.reason_codes import explain
from edge.relay.connection import Connection, connected

_EVERY = "+"
_TOPICS_AT_ONCE = 60  # In one packet: brokers limit its bytes.
_LET_GO_LIMIT = 1000  # Names are those of whoever may publish: a flood of them must not use memory.

_SESSION_NEVER_EXPIRES = 0xFFFF_FFFF
_CONFIRMATION_S = 10.0
_HELD_BYTES = 4 * 2**20
_PUBLISH, _SUBACK, _UNSUBACK = PacketType.PUBLISH << 4, PacketType.SUBACK << 4, PacketType.UNSUBACK << 4
_ON_PUBLISH = frozenset({
    Property.PAYLOAD_FORMAT, Property.MESSAGE_EXPIRY, Property.CONTENT_TYPE, Property.RESPONSE_TOPIC,
    Property.CORRELATION_DATA, Property.USER_PROPERTY, Property.SUBSCRIPTION_IDENTIFIER,
})  # fmt: skip
_ON_SUBACK = frozenset({Property.REASON_STRING, Property.USER_PROPERTY})


def topics_of(gateway: str = _EVERY) -> tuple[str, str, str]:
    """Where a gateway publishes; by default, every gateway."""
    return f"tidegate/v1/{gateway}/r/+", f"tidegate/v1/{gateway}/checkpoint", f"tidegate/v1/{gateway}/status"


class Arrival(NamedTuple):
    """One message as received; `packet_id` is that of its PUBACK, 0 where it has QoS 0."""

    topic: str
    data: bytes
    packet_id: int


class Receiver(Connection):
    """A session at the broker, for the records of these gateways; where none is named, of every one.

    Attributes:
        is_subscribed: whether the broker has confirmed the subscription of this connection.
    """

    # QoS 0 or 1, sent again or not, retained or not; QoS 2 is not asked for.
    first_bytes = INBOUND_FIRST_BYTES | {_SUBACK, _UNSUBACK} | {_PUBLISH | flags for flags in (0, 1, 2, 3, 10, 11)}
    packet_bytes = 256 * 1024

    def __init__(self, access: BrokerAccess, gateways: Collection[str] = ()) -> None:
        super().__init__(access)
        self.is_subscribed = False
        self._gateways = frozenset(gateways)
        self._let_go: set[str] = set()
        self._packet_id = 0
        self._unconfirmed: dict[int, list[str]] = {}
        self._arrivals: list[Arrival] = []
        self._held_bytes = 0

    def subscribe(self) -> None:
        """Ask for the records of the gateways."""
        topics = [topic for gateway in sorted(self._gateways) or [_EVERY] for topic in topics_of(gateway)]
        for first in range(0, len(topics), _TOPICS_AT_ONCE):
            some = topics[first : first + _TOPICS_AT_ONCE]
            self._unconfirmed[self._send(PacketType.SUBSCRIBE, [encode_text(topic) + b"\1" for topic in some])] = some
        if self._gateways:
            self._unsubscribe(_EVERY)

    def _unsubscribe(self, gateway: str) -> None:
        if gateway in self._let_go or len(self._let_go) == _LET_GO_LIMIT:
            return
        self._let_go.add(gateway)
        self._send(PacketType.UNSUBSCRIBE, map(encode_text, topics_of(gateway)))

    def _send(self, kind: PacketType, topics: Iterable[bytes]) -> int:
        self._packet_id += 1
        identifier = self._packet_id.to_bytes(2, "big")
        self.write(packet(kind << 4 | 2, identifier, encode_properties({}), b"".join(topics)))
        return self._packet_id

    async def receive(self) -> list[Arrival]:
        """Wait for messages, and return those that have arrived.

        None are returned when the broker confirms the subscription meanwhile.

        Raises:
            BrokerUnreachable: the connection is lost, or the broker does not answer the subscription.
            BrokerRefused: the broker refuses the subscription to the records, or has ended the connection.
        """
        was_subscribed = self.is_subscribed
        # After a cut mosquitto 2.0 sends all that waits for a session before it answers, whatever Receive Maximum says:
        # a relay that acknowledged nothing until then would be late for ever once much waits.
        try:
            async with asyncio.timeout(None if was_subscribed else _CONFIRMATION_S):
                while not self._arrivals and self.is_subscribed == was_subscribed:
                    await self.wait_for_change()
        except TimeoutError as error:
            text = f"{self.access.name} did not answer the subscription in {_CONFIRMATION_S:g} s"
            raise BrokerUnreachable(text) from error
        self.check()
        arrivals, self._arrivals, self._held_bytes = self._arrivals, [], 0
        self.read(is_reading=True)
        return arrivals

    @property
    def waiting(self) -> int:
        """Number of messages that have arrived and were not returned yet."""
        return len(self._arrivals)

    def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Send the PUBACK of each."""
        self.write(b"".join(b"\x40\2" + each.packet_id.to_bytes(2, "big") for each in arrivals if each.packet_id))

    def take(self, first_byte: int, body: bytes) -> None:
        """See `Connection.take`."""
        if first_byte & 0xF0 == _PUBLISH:
            arrival = decode_publish(first_byte, body)
            self._arrivals.append(arrival)
            self._held_bytes += len(body)
            if self._gateways and (gateway := gateway_of(arrival.topic)) not in self._gateways:
                self._unsubscribe(gateway)
            if self._held_bytes > _HELD_BYTES:
                self.read(is_reading=False)
        elif first_byte == _SUBACK and not self.is_subscribed:
            self._take_suback(body)
        elif first_byte != _UNSUBACK:  # What is not let go comes still, and is kept.
            super().take(first_byte, body)

    def _take_suback(self, body: bytes) -> None:
        packet_id, codes = decode_suback(body)
        topics = self._unconfirmed.pop(packet_id, None)
        if topics is None:
            raise MalformedPacket("SUBACK for another packet identifier")
        if len(codes) != len(topics):
            raise MalformedPacket(f"SUBACK with {len(codes)} reason codes")
        for topic, code in zip(topics, codes, strict=True):
            if code >= 0x80:
                text = f"{self.access.name} refuses the relay the topic {topic}: it {explain(code)}"
                self.fail(BrokerRefused(text, code, code=ErrorCode.BROKER_TOPIC_REFUSED))
        self.is_subscribed = not self._unconfirmed


def gateway_of(topic: str) -> str:
    """The gateway whose account may publish on a topic: tidegate/v1/GATEWAY/...; empty where it is none."""
    levels = topic.split("/", 3)
    return levels[2] if len(levels) > 2 else ""


def decode_publish(first_byte: int, body: bytes) -> Arrival:
    """Decode PUBLISH (section 3.3). Raises `MalformedPacket`."""
    reader = PacketReader(body)
    topic = reader.text()
    if not topic:
        raise MalformedPacket("PUBLISH without a topic")
    packet_id = 0
    if first_byte & 2:
        packet_id = reader.u16()
        if not packet_id:
            raise MalformedPacket("PUBLISH with packet identifier 0")
    reader.properties(_ON_PUBLISH)
    return Arrival(topic, reader.rest(), packet_id)


def decode_suback(body: bytes) -> tuple[int, bytes]:
    """The packet identifier, and the reason code of each topic in SUBACK (section 3.9). Raises `MalformedPacket`."""
    reader = PacketReader(body)
    packet_id = reader.u16()
    reader.properties(_ON_SUBACK)
    return packet_id, reader.rest()


@asynccontextmanager
async def subscribe(access: BrokerAccess, gateways: Collection[str] = ()) -> AsyncIterator[Receiver]:
    """Connect with a persistent session and subscribe to these gateways, by default to every one.

    Messages may arrive before the confirmation.

    Raises:
        BrokerUnreachable: the broker does not answer, or the connection is lost later, also inside the block.
        BrokerRefused: the broker refuses the connection, or the subscription to the records, or ends the connection.
    """
    properties: dict[int, int] = {
        Property.SESSION_EXPIRY: _SESSION_NEVER_EXPIRES,
        Property.RECEIVE_MAXIMUM: access.in_flight,
        Property.MAXIMUM_PACKET_SIZE: Receiver.packet_bytes,
        Property.REQUEST_PROBLEM_INFORMATION: 0,
    }
    async with connected(Receiver(access, gateways), properties, is_clean=False) as receiver:
        receiver.subscribe()
        yield receiver
