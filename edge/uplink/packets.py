"""The MQTT 5 packets of a client that only publishes: four are written, four are read.

There is no way to write a SUBSCRIBE here, and none to read a PUBLISH.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge.uplink.wire import (
    Malformed,
    PacketType,
    Property,
    Reader,
    encode_binary,
    encode_properties,
    encode_text,
    encode_varint,
    packet,
)

PINGREQ = packet(PacketType.PINGREQ << 4)
INBOUND_LIMIT_BYTES = 16_384
"""Largest packet taken from a broker; what we expect has a few dozen bytes."""
INBOUND_FIRST_BYTES = frozenset(
    kind << 4 for kind in (PacketType.CONNACK, PacketType.PUBACK, PacketType.PINGRESP, PacketType.DISCONNECT)
)

_WILL, _WILL_QOS_1, _WILL_RETAIN = 0x04, 0x08, 0x20
_USERNAME, _PASSWORD, _CLEAN_START = 0x80, 0x40, 0x02
_P = Property
_ON_CONNACK = frozenset({
    _P.SESSION_EXPIRY, _P.RECEIVE_MAXIMUM, _P.MAXIMUM_QOS, _P.RETAIN_AVAILABLE, _P.MAXIMUM_PACKET_SIZE,
    _P.ASSIGNED_CLIENT_IDENTIFIER, _P.TOPIC_ALIAS_MAXIMUM, _P.REASON_STRING, _P.USER_PROPERTY,
    _P.WILDCARD_AVAILABLE, _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, _P.SHARED_AVAILABLE, _P.SERVER_KEEP_ALIVE,
    _P.RESPONSE_INFORMATION, _P.SERVER_REFERENCE, _P.AUTHENTICATION_METHOD, _P.AUTHENTICATION_DATA,
})  # fmt: skip
_ON_PUBACK = frozenset({_P.REASON_STRING, _P.USER_PROPERTY})
_ON_DISCONNECT = frozenset({_P.SESSION_EXPIRY, _P.REASON_STRING, _P.USER_PROPERTY, _P.SERVER_REFERENCE})


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when the connection is lost."""

    topic: str
    payload: bytes
    is_retained: bool = True


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT."""

    reason_code: int
    has_session: bool
    properties: dict[int, Any]


def encode_connect(
    client_id: str, keep_alive_s: int, will: Will | None, username: str | None, password: bytes | None
) -> bytes:
    """CONNECT with a clean start and no session afterwards (section 3.1)."""
    flags = _CLEAN_START
    parts = [encode_text(client_id)]
    if will is not None:
        flags |= _WILL | _WILL_QOS_1 | (_WILL_RETAIN if will.is_retained else 0)
        parts += [encode_properties({}), encode_text(will.topic), encode_binary(will.payload)]
    if username is not None:
        flags |= _USERNAME
        parts.append(encode_text(username))
    if password is not None:
        flags |= _PASSWORD
        parts.append(encode_binary(password))
    # Without problem information a refusal is its code alone, and no answer can be long.
    properties: dict[int, Any] = {
        Property.SESSION_EXPIRY: 0,
        Property.RECEIVE_MAXIMUM: 1,
        Property.MAXIMUM_PACKET_SIZE: INBOUND_LIMIT_BYTES,
        Property.REQUEST_PROBLEM_INFORMATION: 0,
    }
    head = encode_text("MQTT") + bytes((5, flags)) + keep_alive_s.to_bytes(2, "big") + encode_properties(properties)
    return packet(PacketType.CONNECT << 4, head, *parts)


def encode_disconnect() -> bytes:
    """DISCONNECT without the will being said (section 3.14)."""
    return packet(PacketType.DISCONNECT << 4)


@dataclass(slots=True)
class PublishTopic:
    """How one topic is written in PUBLISH: in full, and once the broker knows its alias, as that (section 3.3.2)."""

    topic: str
    alias: int = 0
    is_alias_known: bool = False
    _full: tuple[bytes, bytes] = field(init=False)
    _short: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        properties = encode_properties({Property.TOPIC_ALIAS: self.alias} if self.alias else {})
        self._full = encode_text(self.topic), properties
        self._short = encode_text(""), properties

    def encode_head(self, packet_id: int, payload_bytes: int, *, is_retained: bool) -> bytes:
        """Everything of a QoS 1 PUBLISH before its payload."""
        topic, properties = self._short if self.is_alias_known else self._full
        length = len(topic) + 2 + len(properties) + payload_bytes
        first = b"\x33" if is_retained else b"\x32"
        return b"".join((first, encode_varint(length), topic, packet_id.to_bytes(2, "big"), properties))


def decode_connack(body: bytes) -> Connack:
    """CONNACK (section 3.2)."""
    reader = Reader(body)
    flags, reason_code = reader.u8(), reader.u8()
    if flags > 1:
        raise Malformed(f"CONNACK flags are {flags:#04x}")
    properties = reader.properties(_ON_CONNACK)
    reader.expect_end()
    return Connack(reason_code, bool(flags), properties)


def decode_puback(body: bytes) -> tuple[int, int]:
    """(packet identifier, reason code) of PUBACK (section 3.4)."""
    reader = Reader(body)
    packet_id = reader.u16()
    reason_code = 0 if reader.is_at_end else reader.u8()
    if not reader.is_at_end:
        reader.properties(_ON_PUBACK)
        reader.expect_end()
    return packet_id, reason_code


def decode_disconnect(body: bytes) -> tuple[int, str]:
    """(reason code, the broker's own words) of DISCONNECT (section 3.14)."""
    reader = Reader(body)
    reason_code = 0 if reader.is_at_end else reader.u8()
    properties = {} if reader.is_at_end else reader.properties(_ON_DISCONNECT)
    reader.expect_end()
    return reason_code, properties.get(Property.REASON_STRING, "")
