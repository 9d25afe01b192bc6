"""Subscriptions and monitored items on the wire (OPC 10000-4, 5.12.2, 5.13.2, 5.13.7, 5.13.8)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.opcua.answer import ServiceFaultError
from drivers.opcua.services import (
    CREATE_MONITORED_ITEMS,
    CREATE_SUBSCRIPTION,
    TRANSFER_SUBSCRIPTIONS,
    response_head,
    violation,
)
from drivers.opcua.walk import EXTENSION_OBJECT, MalformedError, Walk
from edge.errors import ProtocolViolation

_REPORTING, _SOURCE_TIMES, _VALUE = 2, 0, 13
_STATUS_VALUE, _ABSOLUTE = 1, 1
_NO_FILTER = b"\0\0\0"
_OF_VALUE = struct.pack("<IiHi", _VALUE, -1, 0, -1)  # All of it, in the default encoding.
_KEPT_BYTES = 260
_SLOWEST_MS = 7 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Revised:
    """What became of a subscription that was asked for; times in ms."""

    subscription: int
    publishing_ms: float
    lifetime_count: int
    keep_alive_count: int


@dataclass(frozen=True, slots=True)
class ItemWanted:
    """A node to be watched.

    Attributes:
        handle: by which notifications name it.
        node_id: as it is on the wire.
    """

    handle: int
    node_id: bytes
    sampling_ms: float
    queue: int
    deadband: float


@dataclass(frozen=True, slots=True)
class ItemMade:
    """What became of it; `status` is Bad where there is no such item."""

    status: int
    sampling_ms: float
    queue: int


def create_subscription(publishing_ms: float, lifetime_count: int, keep_alive_count: int) -> bytes:
    """Parameters of a CreateSubscriptionRequest, with as many values in a notification as there are."""
    return struct.pack("<dIII?B", publishing_ms, lifetime_count, keep_alive_count, 0, True, 0)


def read_created(data: bytes, handle: int) -> Revised:
    """The answer to it. Raises ServiceFaultError and ProtocolViolation."""
    walk = _answer(data, handle, CREATE_SUBSCRIPTION)
    try:
        revised = Revised(*struct.unpack_from("<IdII", data, walk.skip(20)))
    except MalformedError as error:
        raise violation("subscription", error, data) from error
    if not 0 <= revised.publishing_ms <= _SLOWEST_MS:  # Not a number is neither.
        expected = f"0 to {_SLOWEST_MS:g} ms"
        raise ProtocolViolation("publishing interval", expected, revised.publishing_ms, data[:_KEPT_BYTES])
    return revised


def create_items(subscription: int, items: Sequence[ItemWanted]) -> bytes:
    """Parameters of a CreateMonitoredItemsRequest; the oldest of too many values is dropped."""
    parts = [struct.pack("<Iii", subscription, _SOURCE_TIMES, len(items))]
    for item in items:
        parts += (
            item.node_id, _OF_VALUE, struct.pack("<iId", _REPORTING, item.handle, item.sampling_ms),
            _filter(item.deadband), struct.pack("<I?", item.queue, True),
        )  # fmt: skip
    return b"".join(parts)


def read_items(data: bytes, handle: int, count: int) -> list[ItemMade]:
    """The answer to it. Raises ServiceFaultError and ProtocolViolation."""
    walk = _answer(data, handle, CREATE_MONITORED_ITEMS)
    try:
        _expect("number of monitored items", count, walk.count(21), data)
        return [_item(walk) for _ in range(count)]
    except MalformedError as error:
        raise violation("monitored items", error, data) from error


def transfer_subscription(subscription: int) -> bytes:
    """Parameters of a TransferSubscriptionsRequest; the values of now are sent too."""
    return struct.pack("<iI?", 1, subscription, True)


def read_transferred(data: bytes, handle: int) -> tuple[int, list[int]]:
    """The answer to it: status, and sequence numbers of what was sent and not acknowledged. Raises as the others."""
    walk = _answer(data, handle, TRANSFER_SUBSCRIPTIONS)
    try:
        _expect("number of subscriptions", 1, walk.count(8), data)
        return walk.uint32(), [walk.uint32() for _ in range(max(0, walk.count(4)))]
    except MalformedError as error:
        raise violation("transferred subscription", error, data) from error


def delete_subscription(subscription: int) -> bytes:
    """Parameters of a DeleteSubscriptionsRequest."""
    return struct.pack("<iI", 1, subscription)


def _filter(deadband: float) -> bytes:
    """A DataChangeFilter (OPC 10000-4, 7.22.2) with an absolute deadband, or none."""
    if not deadband:
        return _NO_FILTER
    return struct.pack("<BBHBiiId", 1, 0, 724, 1, 16, _STATUS_VALUE, _ABSOLUTE, deadband)


def _item(walk: Walk) -> ItemMade:
    status, _, sampling_ms, queue = struct.unpack_from("<IIdI", walk.data, walk.skip(20))
    walk.value(EXTENSION_OBJECT)
    return ItemMade(status, sampling_ms, queue)


def _answer(data: bytes, handle: int, service: int) -> Walk:
    walk = Walk(data)
    try:
        head = response_head(walk, service, handle)
    except MalformedError as error:
        raise violation("answer", error, data) from error
    if head.result >> 30:
        raise ServiceFaultError(head.result)
    return walk


def _expect(what: str, expected: int, got: int, data: bytes) -> None:
    if got != expected:
        raise ProtocolViolation(what, expected, got, data[:_KEPT_BYTES])
