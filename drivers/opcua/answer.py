"""The answer to a read: its header and its results, walked strictly (OPC 10000-4, 5.10.2 and 7.33)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.opcua.walk import EXTENSION_OBJECT, Found, MalformedError, Walk
from edge.errors import ProtocolViolation

READ_RESPONSE = 634
SERVICE_FAULT = 397
_HEADER = struct.Struct("<qII")
_KEPT_BYTES = 260


class ServiceFaultError(Exception):
    """The server refused the whole request; `code` is its StatusCode."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"{code:#010x}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what was found in it, and the walk that found it.

    Attributes:
        header_at: where timestamp, request handle and service result are.
    """

    walk: Walk
    header_at: int
    results: list[Found]


def read_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Timestamp in 100 ns since 1601, request handle and service result."""
    return _HEADER.unpack_from(data, at)


def read_answer(data: bytes, handle: int, count: int) -> Answer:
    """Walk the answer to the request with this handle, for as many nodes.

    Raises:
        ServiceFaultError: the server refused the request.
        ProtocolViolation: it is not the answer to it, or no OPC UA.
    """
    walk = Walk(data)
    try:
        kind = _type_id(walk)
        header_at = walk.skip(_HEADER.size)
        _, got, result = read_header(data, header_at)
        if kind not in (READ_RESPONSE, SERVICE_FAULT):
            raise ProtocolViolation("answer", f"ReadResponse ({READ_RESPONSE})", kind, data[:_KEPT_BYTES])
        if got != handle:
            raise ProtocolViolation("request handle", handle, got, data[:_KEPT_BYTES])
        if result >> 30 or kind == SERVICE_FAULT:
            raise ServiceFaultError(result)
        return Answer(walk, header_at, _results(walk, count))
    except MalformedError as error:
        around = data[max(0, error.at - _KEPT_BYTES // 2) :][:_KEPT_BYTES]
        raise ProtocolViolation("answer", "a ReadResponse", str(error), around) from error


def _type_id(walk: Walk) -> int:
    """The number that says which service answers, in any encoding of a NodeId that can hold it."""
    kind = walk.byte()
    if kind == 1:
        walk.skip(1)
        return walk.byte() | walk.byte() << 8
    if kind == 2:
        walk.skip(2)
        return walk.uint32()
    raise MalformedError(f"a service with the encoding {kind:#04x}", walk.at - 1)


def _results(walk: Walk, count: int) -> list[Found]:
    # What the header has after the service result: where the bits of its parts change, everything is looked at anew.
    walk.content.pop()
    at = walk.at
    walk.content.append((at - _HEADER.size, _HEADER.size - 4))
    walk.diagnostic_info()
    for _ in range(max(0, walk.count(4))):
        walk.string()
    walk.value(EXTENSION_OBJECT)
    got = walk.count(1)
    if got != count:
        raise ProtocolViolation("number of values", count, got, walk.data[:_KEPT_BYTES])
    results = [walk.data_value() for _ in range(count)]
    for _ in range(max(0, walk.count(1))):
        walk.diagnostic_info()
    if walk.at != walk.end:
        raise MalformedError(f"{walk.end - walk.at} bytes too many", walk.at)
    return results
