"""OPC UA binary as a server writes and reads it (OPC 10000-6, 5.2), by hand, so that every byte can be wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

NULL_ARRAY = struct.pack("<i", -1)
NO_SECURITY = "http://opcfoundation.org/UA/SecurityPolicy#None"
_EPOCH = 116_444_736_000_000_000
_ID_BYTES = {0: 2, 1: 4, 2: 7, 4: 19}


def u32(*numbers: int) -> bytes:
    """Numbers, four bytes each; also those below 0."""
    return b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers)


def text(value: str | bytes | None, length: int | None = None) -> bytes:
    """A String or ByteString; `length` is what it claims."""
    data = value.encode() if isinstance(value, str) else value or b""
    return u32((len(data) if value is not None else -1) if length is None else length) + data


def array(items: Sequence[bytes], count: int | None = None) -> bytes:
    """Elements and their number; `count` is what it claims."""
    return u32(len(items) if count is None else count) + b"".join(items)


def node_id(number: int, namespace: int = 0) -> bytes:
    """A NodeId in four bytes."""
    return struct.pack("<BBH", 1, namespace, number)


def structure(encoding: int, body: bytes, length: int | None = None) -> bytes:
    """An ExtensionObject; `length` is what it claims."""
    return node_id(encoding) + b"\1" + text(body, length)


def file_time(utc_ns: int) -> int:
    """100 ns since 1601."""
    return utc_ns // 100 + _EPOCH


def data_value(variant: bytes | None, *, status: int | None = None, source: int | None = None) -> bytes:
    """A DataValue; `source` in 100 ns since 1601."""
    mask = (variant is not None) | (status is not None) << 1 | (source is not None) << 2
    return b"".join((
        bytes((mask,)), variant or b"", b"" if status is None else u32(status),
        b"" if source is None else struct.pack("<q", source),
    ))  # fmt: skip


def uint32(value: int) -> bytes:
    """A Variant with a UInt32."""
    return b"\7" + u32(value)


def double(value: float) -> bytes:
    """A Variant with a Double."""
    return b"\x0b" + struct.pack("<d", value)


def texts(values: Sequence[str], count: int | None = None) -> bytes:
    """A Variant with an array of String."""
    return b"\x8c" + array([text(value) for value in values], count)


def message(kind: bytes, body: bytes, *, chunk: bytes = b"F", size: int | None = None) -> bytes:
    """A chunk with its header (OPC 10000-6, 7.1.2.2); `size` is what it claims."""
    return kind + chunk + u32(8 + len(body) if size is None else size) + body


class Reader:
    """Takes a request apart."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, form: str) -> tuple[int, ...]:
        """Numbers."""
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> bytes:
        """The bytes of a String."""
        (length,) = self.take("<i")
        self.at += max(0, length)
        return self.data[self.at - max(0, length) : self.at]

    def node_id(self) -> tuple[int, int]:
        """Namespace and number; those that are not numeric are (0, 0)."""
        encoding = self.data[self.at]
        if encoding in (3, 5):
            self.at += 3
            self.text()
            return 0, 0
        data = self.data[self.at : self.at + _ID_BYTES[encoding]]
        self.at += len(data)
        if encoding == 0:
            return 0, data[1]
        return (data[1], int.from_bytes(data[2:], "little")) if encoding == 1 else struct.unpack("<HI", data[1:])

    def nodes(self) -> Iterator[tuple[int, int]]:
        """The nodes of ReadValueIds."""
        for _ in range(self.take("<i")[0]):
            yield self.value_id()

    def value_id(self) -> tuple[int, int]:
        """The node of one ReadValueId."""
        node = self.node_id()
        self.at += 4
        self.text()
        self.at += 2
        self.text()
        return node
