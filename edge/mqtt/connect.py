"""CONNECT and its answer: who we are, and what the broker then allows (MQTT 5.0, sections 3.1 and 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import (
    MalformedPacket,
    PacketReader,
    PacketType,
    Properties,
    Property,
    encode_binary,
    encode_properties,
    encode_text,
    packet,
)

_P = Property
_PACKET_LIMIT_BYTES = 268_435_460  # The protocol's own (section 2.1.4), for a broker without a limit of its own.
_WILL, _WILL_QOS_1, _WILL_RETAIN = 0x04, 0x08, 0x20
_USERNAME, _PASSWORD, _CLEAN_START = 0x80, 0x40, 0x02
_ON_CONNACK = frozenset({
    _P.SESSION_EXPIRY, _P.RECEIVE_MAXIMUM, _P.MAXIMUM_QOS, _P.RETAIN_AVAILABLE, _P.MAXIMUM_PACKET_SIZE,
    _P.ASSIGNED_CLIENT_IDENTIFIER, _P.TOPIC_ALIAS_MAXIMUM, _P.REASON_STRING, _P.USER_PROPERTY,
    _P.WILDCARD_AVAILABLE, _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, _P.SHARED_AVAILABLE, _P.SERVER_KEEP_ALIVE,
    _P.RESPONSE_INFORMATION, _P.SERVER_REFERENCE, _P.AUTHENTICATION_METHOD, _P.AUTHENTICATION_DATA,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the broker publishes when the connection is lost (section 3.1.2.5)."""

    topic: str
    payload: bytes
    is_retained: bool = True


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT."""

    reason_code: int
    has_session: bool
    properties: dict[int, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """Limits that the broker announces (section 3.2.2.3)."""

    receive_maximum: int = 65_535
    packet_bytes: int = _PACKET_LIMIT_BYTES
    keep_alive_s: int = 30
    is_retaining: bool = True
    topic_aliases: int = 0

    @classmethod
    def of(cls, connack: Connack, keep_alive_s: int) -> BrokerLimits:
        """Those in an accepting CONNACK; `keep_alive_s` is what we asked for. Raises `MalformedPacket`."""
        announced = connack.properties.get
        if 0 in (announced(Property.RECEIVE_MAXIMUM), announced(Property.MAXIMUM_PACKET_SIZE)):
            raise MalformedPacket("CONNACK has a limit of 0")
        return cls(
            receive_maximum=announced(Property.RECEIVE_MAXIMUM, 65_535),
            packet_bytes=announced(Property.MAXIMUM_PACKET_SIZE, _PACKET_LIMIT_BYTES),
            keep_alive_s=announced(Property.SERVER_KEEP_ALIVE, keep_alive_s) or keep_alive_s,
            is_retaining=bool(announced(Property.RETAIN_AVAILABLE, 1)),
            topic_aliases=announced(Property.TOPIC_ALIAS_MAXIMUM, 0),
        )


def encode_connect(
    access: BrokerAccess, properties: Properties, *, will: Will | None = None, is_clean: bool = True
) -> bytes:
    """Encode CONNECT (section 3.1)."""
    flags = _CLEAN_START if is_clean else 0
    parts = [encode_text(access.client_id)]
    if will is not None:
        flags |= _WILL | _WILL_QOS_1 | (_WILL_RETAIN if will.is_retained else 0)
        parts += [encode_properties({}), encode_text(will.topic), encode_binary(will.payload)]
    if access.username is not None:
        flags |= _USERNAME
        parts.append(encode_text(access.username))
    if access.password is not None:
        flags |= _PASSWORD
        parts.append(encode_binary(access.password))
    keep_alive = access.keep_alive_s.to_bytes(2, "big")
    head = encode_text("MQTT") + bytes((5, flags)) + keep_alive + encode_properties(properties)
    return packet(PacketType.CONNECT << 4, head, *parts)


def decode_connack(body: bytes) -> Connack:
    """Decode CONNACK (section 3.2). Raises `MalformedPacket`."""
    reader = PacketReader(body)
    flags, reason_code = reader.u8(), reader.u8()
    if flags > 1:
        raise MalformedPacket(f"CONNACK flags are {flags:#04x}")
    properties = reader.properties(_ON_CONNACK)
    reader.expect_end()
    return Connack(reason_code, bool(flags), properties)
