"""The request of a read, built once; only its handle and its time are others each time (OPC 10000-4, 5.10.2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

from drivers.opcua.address import NodeAddress
from drivers.opcua.plan import NODES_PER_READ

READ_REQUEST = 631
VALUE = 13
_SOURCE_TIMES = 0
_HEADER_TAIL = struct.pack("<Ii", 0, -1)  # No diagnostics, no audit entry.
_NO_MORE = b"\0\0\0"
_OF_VALUE = struct.pack("<IiHi", VALUE, -1, 0, -1)  # All of it, in the default encoding.
_FILE_TIME_PER_NS = 100
_UNIX_EPOCH = 116_444_736_000_000_000


class ReadRequest:
    """Values of nodes, in their order, with source times and never from a cache."""

    def __init__(self, nodes: Sequence[bytes], token: bytes, timeout_ms: int) -> None:
        """Args:
        nodes: NodeIds as they are on the wire.
        token: the session's authentication token, likewise.
        """  # fmt: skip
        self.count = len(nodes)
        head = struct.pack("<BBH", 1, 0, READ_REQUEST) + token
        self._varying_at = len(head)
        self._bytes = bytearray(b"".join([
            head, bytes(12), _HEADER_TAIL, struct.pack("<I", timeout_ms), _NO_MORE,
            struct.pack("<dii", 0.0, _SOURCE_TIMES, len(nodes)),
            *[part for node in nodes for part in (node, _OF_VALUE)],
        ]))  # fmt: skip

    def body(self, handle: int, utc_ns: int) -> bytes:
        """The message for one asking."""
        struct.pack_into("<qI", self._bytes, self._varying_at, utc_ns // _FILE_TIME_PER_NS + _UNIX_EPOCH, handle)
        return bytes(self._bytes)


def node_id(address: NodeAddress, index: int) -> bytes:
    """A NodeId on the wire (OPC 10000-6, 5.2.2.9), as short as it can be."""
    identifier = address.identifier
    if isinstance(identifier, int):
        if index == 0 and identifier < 2**8:
            return struct.pack("<BB", 0, identifier)
        if index < 2**8 and identifier < 2**16:
            return struct.pack("<BBH", 1, index, identifier)
        return struct.pack("<BHI", 2, index, identifier)
    if isinstance(identifier, UUID):
        return struct.pack("<BH", 4, index) + identifier.bytes_le
    kind, data = (3, identifier.encode()) if isinstance(identifier, str) else (5, identifier)
    return struct.pack("<BHi", kind, index, len(data)) + data


class ChunkSize:
    """How many nodes a request may hold, as far as the server has shown; it is remembered from session to session."""

    def __init__(self) -> None:
        self._learned = 0

    def within(self, wanted: int, allowed: int) -> int:
        """Nodes in one request, given what the settings and the server say; 0 where they do not."""
        return min(filter(None, (wanted, allowed, self._learned)), default=NODES_PER_READ)

    def halve(self, count: int) -> bool:
        """Ask for half as many from now on; False where that is not possible."""
        self._learned = max(1, count // 2)
        return count > 1
