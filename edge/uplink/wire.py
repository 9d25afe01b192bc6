"""MQTT 5 data representation (MQTT 5.0, sections 1.5 and 2.2): what every packet is made of.

Shared by the publisher and the embedded broker; the packets themselves are not.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Any

Properties = Mapping[int, Any]
"""Property identifier to value; a property that may repeat holds a list."""


class Malformed(ValueError):
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
VARINT_LIMIT = 268_435_455


def encode_varint(number: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
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
    """Binary data behind its two-byte length (section 1.5.6)."""
    if len(data) > 0xFFFF:
        raise ValueError(f"MQTT holds at most 65,535 bytes here, got {len(data)}")
    return _u16.pack(len(data)) + data


def encode_text(text: str) -> bytes:
    """A UTF-8 string behind its two-byte length (section 1.5.4)."""
    return encode_binary(text.encode())


def encode_properties(properties: Properties) -> bytes:
    """Properties behind their length (section 2.2.2)."""
    body = b"".join(
        _encode_property(key, value)
        for key, held in properties.items()
        for value in (held if key in _REPEATABLE else (held,))
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
    """A whole control packet: first byte, remaining length, the rest."""
    body = b"".join(parts)
    return bytes((first_byte,)) + encode_varint(len(body)) + body


def packet_name(first_byte: int) -> str:
    """What a packet is called, by its first byte."""
    kind, flags = first_byte >> 4, first_byte & 0x0F
    name = PacketType(kind).name if kind else "reserved packet type"
    return f"{name} with flags {flags}" if flags else name


class Reader:
    """Reads a packet's body from front to back; never past its end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self._at + count
        if end > len(self._data):
            raise Malformed(f"packet ends {end - len(self._data)} bytes early")
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
                    raise Malformed("variable byte integer is longer than needed")
                return number
        raise Malformed("variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        """Binary data."""
        return self.take(self.u16())

    def text(self) -> str:
        """A UTF-8 string without the null character."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("text is not UTF-8") from error
        if "\0" in text:
            raise Malformed("text contains the null character")
        return text

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data) - self._at)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def expect_end(self) -> None:
        """Refuse trailing bytes."""
        if not self.is_at_end:
            raise Malformed(f"{len(self._data) - self._at} bytes too many")

    def properties(self, allowed: frozenset[Property]) -> dict[int, Any]:
        """Properties, of which only `allowed` may appear."""
        body = Reader(self.take(self.varint()))
        found: dict[int, Any] = {}
        while not body.is_at_end:
            key = body.varint()
            if key not in allowed:
                raise Malformed(f"property {key} has no place here")
            value = body.property_value(Property(key))
            if key in _REPEATABLE:
                found.setdefault(key, []).append(value)
            elif key in found:
                raise Malformed(f"property {key} appears twice")
            else:
                found[key] = value
        return found

    def property_value(self, key: Property) -> Any:
        """One property's value."""
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
    """Cuts a byte stream into (first byte, body), refusing what is too long or of no use before it is held."""

    __slots__ = ("_first_bytes", "_held", "_limit_bytes")

    def __init__(self, limit_bytes: int, first_bytes: Collection[int] = range(256)) -> None:
        self._held = bytearray()
        self._limit_bytes, self._first_bytes = limit_bytes, first_bytes

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that these bytes complete, in order.

        Raises:
            Malformed: a packet is over the limit or begins with another byte, or its length is not a variable byte
                integer.
        """
        held = self._held
        held += data
        packets = []
        at = 0
        while at < len(held):
            if held[at] not in self._first_bytes:
                raise Malformed(f"{packet_name(held[at])} is not expected here")
            head = _remaining_length(held, at)
            if head is None:
                break
            body_at, length = head
            if body_at - at + length > self._limit_bytes:
                raise Malformed(f"packet of {length} bytes, at most {self._limit_bytes} are taken")
            if len(held) < body_at + length:
                break
            packets.append((held[at], bytes(held[body_at : body_at + length])))
            at = body_at + length
        del held[:at]
        return packets


def _remaining_length(data: bytearray, at: int) -> tuple[int, int] | None:
    """(where the body starts, its length) of the packet at an offset; None while that is not known yet."""
    length = 0
    for index in range(4):
        position = at + 1 + index
        if position >= len(data):
            return None
        length |= (data[position] & 0x7F) << 7 * index
        if data[position] < 0x80:
            return position + 1, length
    raise Malformed("remaining length is longer than four bytes")
