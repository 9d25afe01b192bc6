"""A tag that does not fit in one answer, read in fragments (1756-PM020, Read Tag Fragmented Service)."""

from __future__ import annotations

import struct
from collections.abc import Generator

from drivers.ethernetip import codec
from drivers.ethernetip.address import TagAddress
from drivers.ethernetip.codec import Question
from drivers.ethernetip.reads import Read
from drivers.ethernetip.replies import PARTIAL, SUCCESS, reply_of
from drivers.ethernetip.types import STRUCTURE
from edge.errors import ProtocolViolation

_HEAD = bytes((codec.READ | codec.REPLY, 0, 0, 0))


def whole_of(read: Read) -> Generator[Question, bytes, bytes]:
    """The answer to a read as if it had come in one piece; an error as it came.

    Raises:
        ProtocolViolation: the fragments do not belong together, or have no end.
    """
    assert isinstance(read.where, TagAddress)
    path, first, data = codec.symbolic_path(read.where.parts), b"", b""
    while True:
        question = codec.read_fragment(path, read.elements, len(data))
        body = yield question
        reply = reply_of(body, codec.READ_FRAGMENT)
        if reply.status not in (SUCCESS, PARTIAL):
            return bytes((codec.READ | codec.REPLY,)) + body[1:]
        head_bytes = 4 if body[reply.start : reply.start + 2] == struct.pack("<H", STRUCTURE) else 2
        head = body[reply.start : reply.start + head_bytes]
        if first and head != first:
            raise ProtocolViolation("type of a fragment", first.hex(), head.hex(), body[:64])
        part = body[reply.start + head_bytes : reply.end]
        first, data = head, data + part
        if reply.status == SUCCESS:
            return _HEAD + first + data
        if not part or len(data) > read.data_bytes:
            raise ProtocolViolation("fragments", f"up to {read.data_bytes} bytes", f"{len(data)} and more", body[:64])
