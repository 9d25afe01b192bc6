"""The broker's side of MQTT 5: what a server reads and writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge.mqtt.codec import (
    MalformedPacket,
    PacketReader,
    PacketType,
    Properties,
    Property,
    encode_properties,
    encode_text,
    packet,
)

PINGRESP = packet(PacketType.PINGRESP << 4)
CONNACK_OF_MQTT_3 = b"\x20\x02\x00\x01"  # Unacceptable protocol version, as MQTT 3.1.1 says it.
_P = Property
_ON_CONNECT = frozenset({
    _P.SESSION_EXPIRY, _P.RECEIVE_MAXIMUM, _P.MAXIMUM_PACKET_SIZE, _P.TOPIC_ALIAS_MAXIMUM, _P.USER_PROPERTY,
    _P.REQUEST_RESPONSE_INFORMATION, _P.REQUEST_PROBLEM_INFORMATION, _P.AUTHENTICATION_METHOD,
    _P.AUTHENTICATION_DATA,
})  # fmt: skip
_ON_MESSAGE = frozenset({
    _P.PAYLOAD_FORMAT, _P.MESSAGE_EXPIRY, _P.CONTENT_TYPE, _P.RESPONSE_TOPIC, _P.CORRELATION_DATA, _P.USER_PROPERTY,
})  # fmt: skip
_ON_WILL = _ON_MESSAGE | {_P.WILL_DELAY}
_ON_PUBLISH = _ON_MESSAGE | {_P.TOPIC_ALIAS}
_ON_ANSWER = frozenset({_P.REASON_STRING, _P.USER_PROPERTY})
_ON_SUBSCRIBE = frozenset({_P.SUBSCRIPTION_IDENTIFIER, _P.USER_PROPERTY})
_ON_DISCONNECT = _ON_ANSWER | {_P.SESSION_EXPIRY, _P.SERVER_REFERENCE}


@dataclass(frozen=True, slots=True)
class Message:
    """A published message."""

    topic: str
    payload: bytes
    qos: int = 0
    is_retained: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT."""

    version: int
    client_id: str = ""
    is_clean: bool = True
    keep_alive_s: int = 0
    will: Message | None = None
    will_delay_s: int = 0
    username: str | None = None
    password: bytes | None = None
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicSubscription:
    """One topic filter of a SUBSCRIBE."""

    filter: str
    qos: int
    is_no_local: bool
    is_retain_as_published: bool
    retain_handling: int


def decode_connect(body: bytes) -> Connect:
    """Decode CONNECT; of another protocol version only its number."""
    reader = PacketReader(body)
    if reader.text() != "MQTT":
        raise MalformedPacket("protocol name is not MQTT")
    version = reader.u8()
    if version != 5:
        return Connect(version)
    flags, keep_alive_s = reader.u8(), reader.u16()
    if flags & 1:
        raise MalformedPacket("reserved CONNECT flag is set")
    properties = reader.properties(_ON_CONNECT)
    client_id = reader.text()
    will, delay_s = _decode_will(reader, flags) if flags & 4 else (None, 0)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    reader.expect_end()
    return Connect(version, client_id, bool(flags & 2), keep_alive_s, will, delay_s, username, password, properties)


def _decode_will(reader: PacketReader, flags: int) -> tuple[Message, int]:
    properties = reader.properties(_ON_WILL)
    delay_s = properties.pop(Property.WILL_DELAY, 0)
    will = Message(reader.text(), reader.binary(), flags >> 3 & 3, bool(flags & 0x20), properties)
    if will.qos > 1:
        raise MalformedPacket("will wants a quality of service that is not offered")
    return will, delay_s


def decode_publish(flags: int, body: bytes, aliases: dict[int, str]) -> tuple[int, Message]:
    """(packet identifier, message) of a PUBLISH; learns and resolves topic aliases."""
    reader = PacketReader(body)
    qos = flags >> 1 & 3
    if qos > 1:
        raise MalformedPacket("quality of service that is not offered")
    topic = reader.text()
    packet_id = reader.u16() if qos else 0
    properties = reader.properties(_ON_PUBLISH)
    alias = properties.pop(Property.TOPIC_ALIAS, None)
    if topic and alias is not None:
        aliases[alias] = topic
    elif alias is not None:
        topic = aliases.get(alias, "")
    if not topic or "+" in topic or "#" in topic:
        raise MalformedPacket("PUBLISH without a proper topic")
    return packet_id, Message(topic, reader.rest(), qos, bool(flags & 1), properties)


def decode_subscribe(body: bytes) -> tuple[int, list[TopicSubscription]]:
    """(packet identifier, topic filters) of SUBSCRIBE."""
    reader = PacketReader(body)
    packet_id = reader.u16()
    reader.properties(_ON_SUBSCRIBE)
    wanted = []
    while not reader.is_at_end:
        topic_filter, options = reader.text(), reader.u8()
        is_local, is_published = bool(options & 4), bool(options & 8)
        wanted.append(TopicSubscription(topic_filter, min(options & 3, 1), is_local, is_published, options >> 4 & 3))
    return packet_id, wanted


def decode_unsubscribe(body: bytes) -> tuple[int, list[str]]:
    """(packet identifier, topic filters) of UNSUBSCRIBE."""
    reader = PacketReader(body)
    packet_id = reader.u16()
    reader.properties(frozenset({Property.USER_PROPERTY}))
    filters = []
    while not reader.is_at_end:
        filters.append(reader.text())
    return packet_id, filters


def decode_puback(body: bytes) -> tuple[int, int]:
    """(packet identifier, reason code) of a subscriber's PUBACK."""
    reader = PacketReader(body)
    return reader.u16(), 0 if reader.is_at_end else reader.u8()


def decode_disconnect(body: bytes) -> tuple[int, dict[int, Any]]:
    """(reason code, properties) of DISCONNECT."""
    reader = PacketReader(body)
    reason_code = 0 if reader.is_at_end else reader.u8()
    return reason_code, {} if reader.is_at_end else reader.properties(_ON_DISCONNECT)


def encode_connack(reason_code: int, *, has_session: bool, properties: Properties) -> bytes:
    """CONNACK."""
    return packet(PacketType.CONNACK << 4, bytes((has_session, reason_code)), encode_properties(properties))


def encode_publish(message: Message, packet_id: int, qos: int, *, is_duplicate: bool, is_retained: bool) -> bytes:
    """PUBLISH to a subscriber."""
    first = PacketType.PUBLISH << 4 | is_duplicate << 3 | qos << 1 | is_retained
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    return packet(first, encode_text(message.topic), identifier, encode_properties(message.properties), message.payload)


def encode_puback(packet_id: int, reason_code: int) -> bytes:
    """PUBACK; without a reason code when it is success."""
    return packet(PacketType.PUBACK << 4, packet_id.to_bytes(2, "big"), bytes((reason_code,)) if reason_code else b"")


def encode_answer(kind: PacketType, packet_id: int, reason_codes: list[int]) -> bytes:
    """SUBACK or UNSUBACK."""
    return packet(kind << 4, packet_id.to_bytes(2, "big"), encode_properties({}), bytes(reason_codes))


def encode_disconnect(reason_code: int) -> bytes:
    """DISCONNECT."""
    return packet(PacketType.DISCONNECT << 4, bytes((reason_code,)))
