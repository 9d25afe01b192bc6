"""The answer to a read, walked strictly (OPC 10000-4, 5.10.2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.opcua.services import READ, response_head, violation
from drivers.opcua.walk import Found, MalformedError, Walk
from edge.errors import ProtocolViolation

_HEADER = struct.Struct("<qII")
_HEADER_AT = {1: 4, 2: 7}  # After the NodeId that says which service answers, by its encoding.
_KEPT_BYTES = 260


class ServiceFaultError(Exception):
    """The server refused the whole request; `code` is its StatusCode."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"{code:#010x}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what was found in it, and the walk that found it."""

    walk: Walk
    results: list[Found]


def read_header(data: bytes) -> tuple[int, int, int]:
    """Timestamp in 100 ns since 1601, request handle and service result of what is known to be an answer."""
    device_time, handle, result = _HEADER.unpack_from(data, _HEADER_AT[data[0]])
    return device_time, handle, result


def read_answer(data: bytes, handle: int, count: int) -> Answer:
    """Walk the answer to the request with this handle, for as many nodes.

    Raises:
        ServiceFaultError: the server refused the request.
        ProtocolViolation: it is not the answer to it, or no OPC UA.
    """
    walk = Walk(data)
    try:
        head = response_head(walk, READ, handle)
        if head.result >> 30:
            raise ServiceFaultError(head.result)
        return Answer(walk, _results(walk, count))
    except MalformedError as error:
        raise violation("answer", error, data) from error


def _results(walk: Walk, count: int) -> list[Found]:
    got = walk.count(1)
    if got != count:
        raise ProtocolViolation("number of values", count, got, walk.data[:_KEPT_BYTES])
    results = [walk.data_value() for _ in range(count)]
    for _ in range(max(0, walk.count(1))):
        walk.diagnostic_info()
    if walk.at != walk.end:
        raise MalformedError(f"{walk.end - walk.at} bytes too many", walk.at)
    return results
