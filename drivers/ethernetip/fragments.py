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

_FRAGMENTS_MIN, _FRAGMENT_BYTES_MIN = 4, 100
_STRUCTURE = struct.pack("<H", STRUCTURE)
_HEAD = bytes((codec.READ | codec.REPLY, 0, 0, 0))


def whole_of(read: Read) -> Generator[Question, bytes, bytes]:
    """The answer to a read as if it had come in one piece; an error as it came.

    What does not belong together, or has no end, comes as a piece of the wrong size.
    """
    assert isinstance(read.where, TagAddress)
    path, first, data = codec.symbolic_path(read.where.parts), b"", b""
    for _ in range(_FRAGMENTS_MIN + read.data_bytes // _FRAGMENT_BYTES_MIN):
        body = yield codec.read_fragment(path, read.elements, len(data))
        reply = reply_of(body, codec.READ_FRAGMENT)
        if reply.status not in (SUCCESS, PARTIAL):
            return bytes((codec.READ | codec.REPLY,)) + body[1:]
        head_bytes = 4 if body[reply.start : reply.start + 2] == _STRUCTURE else 2
        head, part = body[reply.start : reply.start + head_bytes], body[reply.start + head_bytes : reply.end]
        if first and head != first:
            break  # Changed while it was read: neither the one nor the other.
        first, data = head, data + part
        if reply.status == SUCCESS:
            return _HEAD + first + data
        if not part or len(data) > read.data_bytes:
            break
    return _HEAD + first
