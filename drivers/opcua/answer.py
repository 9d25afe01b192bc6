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
    """An answer, or a stretch of one: the walk through it, from which byte on, and what was found there."""

    walk: Walk
    first: int
    results: list[Found]


def read_header(data: bytes) -> tuple[int, int, int]:
    """Timestamp in 100 ns since 1601, request handle and service result of what is known to be an answer."""
    device_time, handle, result = _HEADER.unpack_from(data, _HEADER_AT[data[0]])
    return device_time, handle, result


def read_answer(data: bytes, handle: int, count: int, stretch: int | None = None) -> Answer:
    """Walk the answer to the request with this handle, for as many nodes: all of it, or its first stretch of values.

    Raises:
        ServiceFaultError: the server refused the request.
        ProtocolViolation: it is not the answer to it, or no OPC UA.
    """
    walk = Walk(data)
    try:
        head = response_head(walk, READ, handle)
        if head.result >> 30:
            raise ServiceFaultError(head.result)
        got = walk.count(1)
    except MalformedError as error:
        raise violation("answer", error, data) from error
    if got != count:
        raise ProtocolViolation("number of values", count, got, data[:_KEPT_BYTES])
    return _read_values(walk, 0, count if stretch is None else stretch, is_last=stretch in (None, count))


def read_rest(data: bytes, first: int, count: int) -> Answer:
    """Walk the values from a byte to the end of an answer. Raises ProtocolViolation."""
    return _read_values(Walk(data, first), first, count, is_last=True)


def _read_values(walk: Walk, first: int, count: int, *, is_last: bool) -> Answer:
    try:
        results = [walk.data_value() for _ in range(count)]
        if is_last:
            _read_end(walk)
    except MalformedError as error:
        raise violation("answer", error, walk.data) from error
    return Answer(walk, first, results)


def _read_end(walk: Walk) -> None:
    for _ in range(max(0, walk.count(1))):
        walk.diagnostic_info()
    if walk.at != walk.end:
        raise MalformedError(f"{walk.end - walk.at} bytes too many", walk.at)
