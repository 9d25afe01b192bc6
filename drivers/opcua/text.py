"""Values that are recorded as text, read from bytes that were walked before."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from uuid import UUID

from drivers.opcua.walk import (
    BYTE_STRING,
    EXPANDED_NODE_ID,
    GUID,
    LOCALIZED_TEXT,
    NODE_ID,
    QUALIFIED_NAME,
    STATUS_CODE,
)

Namespaces = tuple[str, ...]
"""Namespace URIs of the server, by index."""


def text_of(data: bytes, at: int, type_id: int, namespaces: Namespaces) -> str:
    """The value of a built-in type that begins at a byte. Raises UnicodeDecodeError."""
    return _READING.get(type_id, _string)(data, at, namespaces)


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
    """As OPC 10000-6, 5.1.12 writes it, its namespace by URI: an index means nothing later."""
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


_READING: dict[int, Callable[[bytes, int, Namespaces], str]] = {
    GUID: _guid,
    BYTE_STRING: _byte_string,
    NODE_ID: _node_id,
    EXPANDED_NODE_ID: _node_id,
    STATUS_CODE: _status_code,
    QUALIFIED_NAME: _qualified_name,
    LOCALIZED_TEXT: _localized_text,
}
