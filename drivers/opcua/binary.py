"""A strict reader of OPC UA binary (OPC 10000-6, 5.2), which finds where each value is within the bytes received.

Nothing is allocated by a claimed length; nesting depth and the number of items are limited.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

NULL, BOOLEAN, STRING, DATE_TIME, GUID, BYTE_STRING, XML = 0, 1, 12, 13, 14, 15, 16
NODE_ID, EXPANDED_NODE_ID, STATUS_CODE, QUALIFIED_NAME, LOCALIZED_TEXT = 17, 18, 19, 20, 21
EXTENSION_OBJECT, DATA_VALUE, VARIANT, DIAGNOSTIC_INFO = 22, 23, 24, 25
WIDTHS = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, DATE_TIME: 8, GUID: 16, STATUS_CODE: 4}
"""Bytes of the built-in types of fixed size (OPC 10000-6, 5.1.2)."""
NAMES = ("nothing", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float",
         "Double", "String", "DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode",
         "QualifiedName", "LocalizedText", "structure", "DataValue", "Variant", "DiagnosticInfo")  # fmt: skip
"""The built-in types, by number."""

_DEPTH = 8
_ITEMS = 20_000  # Most items of variable size in one message.
_ID_BYTES = {0: 1, 1: 3, 2: 6, 4: 18}
_LAST_TYPE = 31  # 26 to 31 are reserved and encoded as byte strings (OPC 10000-6, 5.2.2.16).
_INT32 = struct.Struct("<i")
_UINT32 = struct.Struct("<I")

Span = tuple[int, int]
"""(first byte, count)."""


class MalformedError(Exception):
    """The bytes are not what they should be; `at` is where."""

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at
        super().__init__(f"{what} at byte {at}")


@dataclass(slots=True)
class DataValue:
    """Where the parts of one DataValue are (OPC 10000-6, 5.2.2.17).

    Attributes:
        source_at: where its source timestamp is, or -1.
        type: number of the built-in type of its value; 0 where it has none.
        at: where a scalar is.
        starts: where the elements of an array are; None for a scalar.
        dimensions: of a matrix; empty otherwise.
    """

    status: int = 0
    source_at: int = -1
    type: int = NULL
    at: int = 0
    starts: Sequence[int] | None = None
    dimensions: tuple[int, ...] = ()


class BinaryReader:
    """Reads a message from a position on, and records where values are.

    Attributes:
        at: the next byte.
        value_spans: bytes that may differ in the next message of the same layout; all others are structure.
        bodies: the span of each structure's body, by the structure's first byte.
        decoded_bodies: the members of those that were decoded, or the error of the attempt.
        items_left: how many more items of variable size may be read.
    """

    __slots__ = ("at", "bodies", "data", "decoded_bodies", "end", "items_left", "value_spans")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at, self.end = data, at, len(data) if end is None else end
        self.value_spans: list[Span] = []
        self.bodies: dict[int, Span] = {}
        self.decoded_bodies: dict[int, Any] = {}
        self.items_left = _ITEMS

    def skip(self, count: int) -> int:
        """Skip bytes of a value; returns where they begin."""
        at = self.at
        if count > self.end - at:
            raise MalformedError(f"{count} bytes announced, {self.end - at} left", at)
        self.at = at + count
        self.value_spans.append((at, count))
        return at

    def byte(self) -> int:
        """Read a byte of structure."""
        at = self.at
        if at >= self.end:
            raise MalformedError("unexpected end", at)
        self.at = at + 1
        return self.data[at]

    def int32(self) -> int:
        """Read a number of structure."""
        return int(self._number(_INT32))

    def uint32(self) -> int:
        """Read a number of structure."""
        return int(self._number(_UINT32))

    def string(self) -> Span:
        """Skip a string; returns the span of its bytes, with the count -1 where it is null."""
        length = self.int32()
        if length == -1:
            return self.at, -1
        if length < 0:
            raise MalformedError(f"a length of {length}", self.at - 4)
        return self.skip(length), length

    def count(self, smallest: int) -> int:
        """Read the length of an array, -1 if it is null; `smallest` is the least size of an element in bytes."""
        count = self.int32()
        if count < -1 or count * smallest > self.end - self.at:
            raise MalformedError(f"{count} elements announced, {self.end - self.at} bytes left", self.at - 4)
        return count

    def value(self, type_id: int, depth: int = 0) -> int:
        """Skip one value of a built-in type; returns where it begins."""
        width = WIDTHS.get(type_id)
        if width is not None:
            return self.skip(width)
        at = self.at
        self.enter_item(depth)
        _READERS.get(type_id, _read_string)(self, depth)
        return at

    def enter_item(self, depth: int) -> None:
        """Count one more item at this depth. Raises MalformedError beyond the limits."""
        self.items_left -= 1
        if depth > _DEPTH or self.items_left < 0:
            raise MalformedError("nested too deeply" if depth > _DEPTH else "more items than anyone needs", self.at)

    def data_value(self, depth: int = 0) -> DataValue:
        """Read one DataValue."""
        found = DataValue()
        mask = self.byte()
        if mask & 0xC0:
            raise MalformedError(f"a DataValue with the mask {mask:#04x}", self.at - 1)
        if mask & 0x01:
            self.variant(found, depth + 1)
        if mask & 0x02:
            found.status = self.uint32()
        if mask & 0x04:
            found.source_at = self.skip(8)
        if mask & 0x10:
            self.skip(2)
        if mask & 0x08:
            self.skip(8)
        if mask & 0x20:
            self.skip(2)
        return found

    def variant(self, found: DataValue, depth: int = 0) -> None:
        """Read one Variant (OPC 10000-6, 5.2.2.16) into `found`."""
        encoding = self.byte()
        found.type = type_id = encoding & 0x3F
        if type_id > _LAST_TYPE or (encoding & 0x40 and not encoding & 0x80) or (encoding and not type_id):
            raise MalformedError(f"a Variant with the encoding {encoding:#04x}", self.at - 1)
        if encoding & 0x80:
            found.starts = self.elements(type_id, depth)
        elif type_id:
            found.at = self.value(type_id, depth + 1)
        if encoding & 0x40:
            found.dimensions = tuple(self.int32() for _ in range(self.count(4)))

    def elements(self, type_id: int, depth: int) -> Sequence[int]:
        """Skip an array of a built-in type; returns where each element begins."""
        width = WIDTHS.get(type_id)
        count = max(0, self.count(width or 1))
        if width is not None:
            at = self.skip(count * width)
            return range(at, at + count * width, width)
        return [self.value(type_id, depth + 1) for _ in range(count)]

    def node_id(self) -> None:
        """Skip a NodeId or ExpandedNodeId (OPC 10000-6, 5.2.2.9 and 5.2.2.10)."""
        encoding = self.byte()
        kind = encoding & 0x3F
        if kind in _ID_BYTES:
            self.skip(_ID_BYTES[kind])
        elif kind in (3, 5):
            self.skip(2)
            self.string()
        else:
            raise MalformedError(f"a NodeId with the encoding {encoding:#04x}", self.at - 1)
        if encoding & 0x80:
            self.string()
        if encoding & 0x40:
            self.skip(4)

    def extension_object(self) -> None:
        """Skip an ExtensionObject without decoding its body."""
        at, passed = self.at, len(self.value_spans)
        self.node_id()
        del self.value_spans[passed:]  # The type of a structure says where its members are.
        encoding = self.byte()
        if encoding > 2:
            raise MalformedError(f"a structure with the encoding {encoding}", self.at - 1)
        if encoding:
            span = self.string()
            del self.value_spans[passed:]
            self.bodies[at] = span

    def diagnostic_info(self, depth: int = 0) -> None:
        """Skip a DiagnosticInfo (OPC 10000-6, 5.2.2.12)."""
        self.enter_item(depth)
        mask = self.byte()
        if mask & 0x80:
            raise MalformedError("a DiagnosticInfo that is none", self.at - 1)
        self.skip(4 * (mask & 0x0F).bit_count())
        if mask & 0x10:
            self.string()
        if mask & 0x20:
            self.skip(4)
        if mask & 0x40:
            self.diagnostic_info(depth + 1)

    def _number(self, form: struct.Struct) -> int:
        at = self.at
        if at + 4 > self.end:
            raise MalformedError("unexpected end", at)
        self.at = at + 4
        return int(form.unpack_from(self.data, at)[0])


def _read_string(reader: BinaryReader, depth: int) -> None:  # noqa: ARG001
    reader.string()


def _read_qualified_name(reader: BinaryReader, depth: int) -> None:  # noqa: ARG001
    reader.skip(2)
    reader.string()


def _read_localized_text(reader: BinaryReader, depth: int) -> None:  # noqa: ARG001
    mask = reader.byte()
    if mask & ~0x03:
        raise MalformedError(f"a LocalizedText with the mask {mask:#04x}", reader.at - 1)
    for _ in range(mask.bit_count()):
        reader.string()


def _read_variant(reader: BinaryReader, depth: int) -> None:
    reader.variant(DataValue(), depth)


def _read_data_value(reader: BinaryReader, depth: int) -> None:
    reader.data_value(depth)


_READERS: dict[int, Callable[[BinaryReader, int], None]] = {
    NODE_ID: lambda reader, _: reader.node_id(),
    EXPANDED_NODE_ID: lambda reader, _: reader.node_id(),
    QUALIFIED_NAME: _read_qualified_name,
    LOCALIZED_TEXT: _read_localized_text,
    EXTENSION_OBJECT: lambda reader, _: reader.extension_object(),
    DATA_VALUE: _read_data_value,
    VARIANT: _read_variant,
    DIAGNOSTIC_INFO: BinaryReader.diagnostic_info,
}  # The others are strings.


Namespaces = tuple[str, ...]
"""Namespace URIs of the server, by index."""


def text_of(data: bytes, at: int, type_id: int, namespaces: Namespaces) -> str:
    """The text of a value of a built-in type that was read before. Raises UnicodeDecodeError."""
    return _TEXT_READERS.get(type_id, _string)(data, at, namespaces)


def _bytes(data: bytes, at: int) -> bytes:
    length = struct.unpack_from("<i", data, at)[0]
    return data[at + 4 : at + 4 + length] if length > 0 else b""


def _string(data: bytes, at: int, namespaces: Namespaces) -> str:  # noqa: ARG001
    return _bytes(data, at).decode()


def _byte_string(data: bytes, at: int, namespaces: Namespaces) -> str:  # noqa: ARG001
    return _bytes(data, at).hex()


def _guid(data: bytes, at: int, namespaces: Namespaces) -> str:  # noqa: ARG001
    return str(UUID(bytes_le=data[at : at + 16]))


def _status_code(data: bytes, at: int, namespaces: Namespaces) -> str:  # noqa: ARG001
    return f"{struct.unpack_from('<I', data, at)[0]:#010x}"


def _qualified_name(data: bytes, at: int, namespaces: Namespaces) -> str:  # noqa: ARG001
    return _bytes(data, at + 2).decode()


def _localized_text(data: bytes, at: int, namespaces: Namespaces) -> str:  # noqa: ARG001
    mask, at = data[at], at + 1
    if mask & 0x01:
        at += 4 + len(_bytes(data, at))
    return _bytes(data, at).decode() if mask & 0x02 else ""


def _node_id(data: bytes, at: int, namespaces: Namespaces) -> str:
    """As in OPC 10000-6, 5.1.12, with the namespace by URI, as its index may change."""
    kind = data[at] & 0x3F
    index, identifier = _identifier(data, at, kind)
    uri = namespaces[index] if index < len(namespaces) else str(index)
    if data[at] & 0x80:
        expanded = at + 1 + _identifier_bytes(data, at, kind)
        uri = _bytes(data, expanded).decode()
    escaped = uri.replace("%", "%25").replace(";", "%3B")
    return f"nsu={escaped};{identifier}" if index or data[at] & 0x80 else identifier


def _identifier_bytes(data: bytes, at: int, kind: int) -> int:
    """Bytes of an identifier after its encoding byte."""
    return {0: 1, 1: 3, 2: 6, 4: 18}.get(kind) or 6 + len(_bytes(data, at + 3))


def _identifier(data: bytes, at: int, kind: int) -> tuple[int, str]:
    """Index of the namespace and the identifier."""
    if kind == 0:
        return 0, f"i={data[at + 1]}"
    if kind == 1:
        index, number = struct.unpack_from("<BH", data, at + 1)
        return index, f"i={number}"
    index = struct.unpack_from("<H", data, at + 1)[0]
    if kind == 2:
        return index, f"i={struct.unpack_from('<I', data, at + 3)[0]}"
    if kind == 4:
        return index, f"g={_guid(data, at + 3, ())}"
    identifier = _bytes(data, at + 3)
    return index, f"s={identifier.decode()}" if kind == 3 else f"b={base64.b64encode(identifier).decode()}"


_TEXT_READERS: dict[int, Callable[[bytes, int, Namespaces], str]] = {
    GUID: _guid,
    BYTE_STRING: _byte_string,
    NODE_ID: _node_id,
    EXPANDED_NODE_ID: _node_id,
    STATUS_CODE: _status_code,
    QUALIFIED_NAME: _qualified_name,
    LOCALIZED_TEXT: _localized_text,
}
