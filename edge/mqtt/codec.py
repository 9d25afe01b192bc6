"""The data representation of MQTT 5 (sections 1.5 and 2.2), and the packets of a client that only publishes.

The representation is shared with the embedded broker. There is no encoder for SUBSCRIBE and no decoder for PUBLISH:
those are in the relay.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

Properties = Mapping[int, Any]
"""Property identifier to value; a property that may repeat holds a list."""


class MalformedPacket(ValueError):
    """Bytes that are not MQTT 5."""


class PacketType(IntEnum):
    """The upper half of a packet's first byte (section 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Property(IntEnum):
    """Property identifiers (section 2.2.2.2)."""

    PAYLOAD_FORMAT = 1
    MESSAGE_EXPIRY = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION_DATA = 9
    SUBSCRIPTION_IDENTIFIER = 11
    SESSION_EXPIRY = 17
    ASSIGNED_CLIENT_IDENTIFIER = 18
    SERVER_KEEP_ALIVE = 19
    AUTHENTICATION_METHOD = 21
    AUTHENTICATION_DATA = 22
    REQUEST_PROBLEM_INFORMATION = 23
    WILL_DELAY = 24
    REQUEST_RESPONSE_INFORMATION = 25
    RESPONSE_INFORMATION = 26
    SERVER_REFERENCE = 28
    REASON_STRING = 31
    RECEIVE_MAXIMUM = 33
    TOPIC_ALIAS_MAXIMUM = 34
    TOPIC_ALIAS = 35
    MAXIMUM_QOS = 36
    RETAIN_AVAILABLE = 37
    USER_PROPERTY = 38
    MAXIMUM_PACKET_SIZE = 39
    WILDCARD_AVAILABLE = 40
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 41
    SHARED_AVAILABLE = 42


_P = Property
_BYTE = {_P.PAYLOAD_FORMAT, _P.REQUEST_PROBLEM_INFORMATION, _P.REQUEST_RESPONSE_INFORMATION, _P.MAXIMUM_QOS,
         _P.RETAIN_AVAILABLE, _P.WILDCARD_AVAILABLE, _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
         _P.SHARED_AVAILABLE}  # fmt: skip
_U16 = {_P.SERVER_KEEP_ALIVE, _P.RECEIVE_MAXIMUM, _P.TOPIC_ALIAS_MAXIMUM, _P.TOPIC_ALIAS}
_U32 = {_P.MESSAGE_EXPIRY, _P.SESSION_EXPIRY, _P.WILL_DELAY, _P.MAXIMUM_PACKET_SIZE}
_BINARY = {_P.CORRELATION_DATA, _P.AUTHENTICATION_DATA}
_REPEATABLE = {_P.USER_PROPERTY, _P.SUBSCRIPTION_IDENTIFIER}

_u16 = struct.Struct(">H")
_u32 = struct.Struct(">I")


def encode_varint(number: int) -> bytes:
    """Encode a variable byte integer (section 1.5.5)."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        if not number:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def encode_binary(data: bytes) -> bytes:
    """Encode binary data with its two-byte length (section 1.5.6)."""
    if len(data) > 0xFFFF:
        raise ValueError(f"MQTT holds at most 65,535 bytes here, got {len(data)}")
    return _u16.pack(len(data)) + data


def encode_text(text: str) -> bytes:
    """Encode a UTF-8 string with its two-byte length (section 1.5.4)."""
    return encode_binary(text.encode())


def encode_properties(properties: Properties) -> bytes:
    """Encode properties with their length (section 2.2.2)."""
    body = b"".join(
        _encode_property(key, value)
        for key, given in properties.items()
        for value in (given if key in _REPEATABLE else (given,))
    )
    return encode_varint(len(body)) + body


def _encode_property(key: int, value: Any) -> bytes:
    head = bytes((key,))
    if key in _BYTE:
        return head + bytes((value,))
    if key in _U16:
        return head + _u16.pack(value)
    if key in _U32:
        return head + _u32.pack(value)
    if key in _BINARY:
        return head + encode_binary(value)
    if key == _P.SUBSCRIPTION_IDENTIFIER:
        return head + encode_varint(value)
    if key == _P.USER_PROPERTY:
        return head + encode_text(value[0]) + encode_text(value[1])
    return head + encode_text(value)


def packet(first_byte: int, *parts: bytes) -> bytes:
    """Encode a control packet: first byte, remaining length, the rest."""
    body = b"".join(parts)
    return bytes((first_byte,)) + encode_varint(len(body)) + body


def packet_name(first_byte: int) -> str:
    """The name of a packet with this first byte, for messages."""
    kind, flags = first_byte >> 4, first_byte & 0x0F
    name = PacketType(kind).name if kind else "reserved packet type"
    return f"{name} with flags {flags}" if flags else name


class PacketReader:
    """Reads a packet's body from front to back. Raises `MalformedPacket` at its end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise MalformedPacket(f"packet ends {end - len(self._data)} bytes early")
        taken, self._at = self._data[self._at : end], end
        return taken

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Two bytes, big endian."""
        return int(_u16.unpack(self.take(2))[0])

    def u32(self) -> int:
        """Four bytes, big endian."""
        return int(_u32.unpack(self.take(4))[0])

    def varint(self) -> int:
        """A variable byte integer in its shortest form."""
        number = shift = 0
        while shift < 28:
            byte = self.u8()
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                if not byte and shift > 7:
                    raise MalformedPacket("variable byte integer is longer than needed")
                return number
        raise MalformedPacket("variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        """Binary data."""
        return self.take(self.u16())

    def text(self) -> str:
        """A UTF-8 string without the null character."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise MalformedPacket("text is not UTF-8") from error
        if "\0" in text:
            raise MalformedPacket("text contains the null character")
        return text

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data) - self._at)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def expect_end(self) -> None:
        """Raise `MalformedPacket` if bytes are left."""
        if not self.is_at_end:
            raise MalformedPacket(f"{len(self._data) - self._at} bytes too many")

    def properties(self, allowed: frozenset[Property]) -> dict[int, Any]:
        """Properties by identifier. Raises `MalformedPacket` for one that is not in `allowed`."""
        body = PacketReader(self.take(self.varint()))
        found: dict[int, Any] = {}
        while not body.is_at_end:
            key = body.varint()
            if key not in allowed:
                raise MalformedPacket(f"property {key} has no place here")
            value = body.property_value(Property(key))
            if key in _REPEATABLE:
                found.setdefault(key, []).append(value)
            elif key in found:
                raise MalformedPacket(f"property {key} appears twice")
            else:
                found[key] = value
        return found

    def property_value(self, key: Property) -> Any:
        """The value of one property."""
        if key in _BYTE:
            return self.u8()
        if key in _U16:
            return self.u16()
        if key in _U32:
            return self.u32()
        if key in _BINARY:
            return self.binary()
        if key == _P.SUBSCRIPTION_IDENTIFIER:
            return self.varint()
        if key == _P.USER_PROPERTY:
            return self.text(), self.text()
        return self.text()


class Splitter:
    """Cuts a byte stream into packets, as (first byte, body). Does not buffer a packet that it will not accept."""

    __slots__ = ("_buffer", "_first_bytes", "_limit_bytes")

    def __init__(self, limit_bytes: int, first_bytes: Collection[int] = range(256)) -> None:
        self._buffer = bytearray()
        self._limit_bytes, self._first_bytes = limit_bytes, first_bytes

    @property
    def is_empty(self) -> bool:
        """Whether no part of a packet is held."""
        return not self._buffer

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that these bytes complete, in order.

        Raises:
            Malformed: a packet is over the limit or begins with another byte, or its length is not a variable byte
                integer.
        """
        buffer = self._buffer
        buffer += data
        packets = []
        at = 0
        while at < len(buffer):
            if buffer[at] not in self._first_bytes:
                raise MalformedPacket(f"{packet_name(buffer[at])} is not expected here")
            head = _remaining_length(buffer, at)
            if head is None:
                break
            body_at, length = head
            if body_at - at + length > self._limit_bytes:
                raise MalformedPacket(f"packet of {length} bytes, at most {self._limit_bytes} are taken")
            if len(buffer) < body_at + length:
                break
            packets.append((buffer[at], bytes(buffer[body_at : body_at + length])))
            at = body_at + length
        del buffer[:at]
        return packets


def _remaining_length(data: bytearray, at: int) -> tuple[int, int] | None:
    """(offset of the body, its length) of the packet at an offset; None while bytes of the length are missing."""
    length = 0
    for index in range(4):
        position = at + 1 + index
        if position >= len(data):
            return None
        length |= (data[position] & 0x7F) << 7 * index
        if data[position] < 0x80:
            return position + 1, length
    raise MalformedPacket("remaining length is longer than four bytes")


PINGREQ = packet(PacketType.PINGREQ << 4)
INBOUND_LIMIT_BYTES = 16_384
"""Largest packet accepted from a broker. The expected ones have a few dozen bytes."""
INBOUND_FIRST_BYTES = frozenset(
    kind << 4 for kind in (PacketType.CONNACK, PacketType.PUBACK, PacketType.PINGRESP, PacketType.DISCONNECT)
)

_ON_PUBACK = frozenset({_P.REASON_STRING, _P.USER_PROPERTY})
_ON_DISCONNECT = frozenset({_P.SESSION_EXPIRY, _P.REASON_STRING, _P.USER_PROPERTY, _P.SERVER_REFERENCE})


def encode_disconnect() -> bytes:
    """Encode DISCONNECT; the broker does not publish the will (section 3.14)."""
    return packet(PacketType.DISCONNECT << 4)


@dataclass(slots=True)
class PublishTopic:
    """One topic in PUBLISH: its name, or its alias once the broker has acknowledged it (section 3.3.2)."""

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
        """Encode all of a QoS 1 PUBLISH before its payload."""
        topic, properties = self._short if self.is_alias_known else self._full
        length = len(topic) + 2 + len(properties) + payload_bytes
        first = b"\x33" if is_retained else b"\x32"
        return b"".join((first, encode_varint(length), topic, packet_id.to_bytes(2, "big"), properties))


def decode_puback(body: bytes) -> tuple[int, int]:
    """(packet identifier, reason code) of PUBACK (section 3.4). Raises `MalformedPacket`."""
    if len(body) == 2:  # Nearly every PUBACK: success.
        return body[0] << 8 | body[1], 0
    reader = PacketReader(body)
    packet_id = reader.u16()
    reason_code = 0 if reader.is_at_end else reader.u8()
    if not reader.is_at_end:
        reader.properties(_ON_PUBACK)
        reader.expect_end()
    return packet_id, reason_code


def decode_disconnect(body: bytes) -> tuple[int, dict[int, Any]]:
    """(reason code, properties) of DISCONNECT (section 3.14). Raises `MalformedPacket`."""
    reader = PacketReader(body)
    reason_code = 0 if reader.is_at_end else reader.u8()
    properties = {} if reader.is_at_end else reader.properties(_ON_DISCONNECT)
    reader.expect_end()
    return reason_code, properties
