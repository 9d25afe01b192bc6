"""The request of a read, whose parameters are built once (OPC 10000-4, 5.10.2), and how many nodes it may hold."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

from drivers.opcua.plan import NODES_PER_READ
from drivers.opcua.services import READ, ServiceRequest

VALUE = 13
_SOURCE_TIMES = 0
_OF_VALUE = struct.pack("<IiHi", VALUE, -1, 0, -1)  # All of it, in the default encoding.


class ReadRequest(ServiceRequest):
    """Values of nodes, in their order, with source times and never from a cache.

    Attributes:
        count: how many nodes.
    """

    def __init__(self, nodes: Sequence[bytes], token: bytes, timeout_ms: int) -> None:
        """See `ServiceRequest`; `nodes` are NodeIds as they are on the wire."""
        head = struct.pack("<dii", 0.0, _SOURCE_TIMES, len(nodes))
        super().__init__(READ, token, b"".join([head, *[node + _OF_VALUE for node in nodes]]), timeout_ms)
        self.count = len(nodes)


def node_id(identifier: int | str | UUID | bytes, index: int) -> bytes:
    """A NodeId on the wire (OPC 10000-6, 5.2.2.9), as short as it can be."""
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
        self._learned = self._answered = 0

    def within(self, wanted: int, allowed: int) -> int:
        """Nodes in one request, given what the settings and the server say; 0 where they do not."""
        return min(filter(None, (wanted or NODES_PER_READ, allowed, self._learned)))

    def halve(self, count: int) -> bool:
        """Ask for half as many from now on; False where that is not possible."""
        self._learned = max(1, count // 2)
        return count > 1

    def note_answer(self, count: int) -> None:
        """Know that the server answers a request for so many."""
        self._answered = max(self._answered, count)

    def note_loss(self, count: int) -> None:
        """Ask for less from now on where the connection ended over a request larger than any that was answered.

        Some servers say so that it is too large.
        """
        if count > self._answered:
            self.halve(count)
