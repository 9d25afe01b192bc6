"""Receiving: the only subscription there is.

A record is acknowledged to the broker only after the caller has made it durable. The session is persistent: the broker
holds messages for a relay that is away and delivers them when it returns, and messages that were not acknowledged are
delivered again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
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

TOPICS = ("tidegate/v1/+/r/+", "tidegate/v1/+/checkpoint", "tidegate/v1/+/status")

_SESSION_NEVER_EXPIRES = 0xFFFF_FFFF
_CONFIRMATION_S = 10.0
_HELD_BYTES = 4 * 2**20
_SUBSCRIPTION_ID = b"\0\1"
_PUBLISH, _SUBACK = PacketType.PUBLISH << 4, PacketType.SUBACK << 4
_ON_PUBLISH = frozenset({
    Property.PAYLOAD_FORMAT, Property.MESSAGE_EXPIRY, Property.CONTENT_TYPE, Property.RESPONSE_TOPIC,
    Property.CORRELATION_DATA, Property.USER_PROPERTY, Property.SUBSCRIPTION_IDENTIFIER,
})  # fmt: skip
_ON_SUBACK = frozenset({Property.REASON_STRING, Property.USER_PROPERTY})


class Arrival(NamedTuple):
    """One message as received; `packet_id` is that of its PUBACK, 0 where it has QoS 0."""

    topic: str
    data: bytes
    packet_id: int


class Receiver(Connection):
    """A session at the broker.

    Attributes:
        is_subscribed: whether the broker has confirmed the subscription of this connection.
    """

    # QoS 0 or 1, sent again or not, retained or not; QoS 2 is not asked for.
    first_bytes = INBOUND_FIRST_BYTES | {_SUBACK} | {_PUBLISH | flags for flags in (0, 1, 2, 3, 10, 11)}
    packet_bytes = 256 * 1024

    def __init__(self, access: BrokerAccess) -> None:
        super().__init__(access)
        self.is_subscribed = False
        self._arrivals: list[Arrival] = []
        self._held_bytes = 0

    def subscribe(self) -> None:
        """Ask for the records of every gateway."""
        topics = b"".join(encode_text(topic) + b"\1" for topic in TOPICS)
        self.write(packet(PacketType.SUBSCRIBE << 4 | 2, _SUBSCRIPTION_ID, encode_properties({}), topics))

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
            if self._held_bytes > _HELD_BYTES:
                self.read(is_reading=False)
        elif first_byte == _SUBACK and not self.is_subscribed:
            self._take_suback(body)
        else:
            super().take(first_byte, body)

    def _take_suback(self, body: bytes) -> None:
        for topic, code in zip(TOPICS, decode_suback(body), strict=True):
            if code >= 0x80:
                text = f"{self.access.name} refuses the relay the topic {topic}: it {explain(code)}"
                self.fail(BrokerRefused(text, code, code=ErrorCode.BROKER_TOPIC_REFUSED))
        self.is_subscribed = True


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


def decode_suback(body: bytes) -> bytes:
    """The reason code of each topic in SUBACK (section 3.9). Raises `MalformedPacket`."""
    reader = PacketReader(body)
    if reader.take(2) != _SUBSCRIPTION_ID:
        raise MalformedPacket("SUBACK for another packet identifier")
    reader.properties(_ON_SUBACK)
    codes = reader.rest()
    if len(codes) != len(TOPICS):
        raise MalformedPacket(f"SUBACK with {len(codes)} reason codes")
    return codes


@asynccontextmanager
async def subscribe(access: BrokerAccess) -> AsyncIterator[Receiver]:
    """Connect with a persistent session and subscribe to every gateway; messages may arrive before the confirmation.

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
    async with connected(Receiver(access), properties, is_clean=False) as receiver:
        receiver.subscribe()
        yield receiver
