"""Publish and Republish on the wire: what is acknowledged, and what a server notifies (OPC 10000-4, 5.13.5, 5.13.6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from drivers.opcua.services import PUBLISH, REPUBLISH, ResponseHead, response_head, violation
from drivers.opcua.walk import MalformedError, Walk

DATA_CHANGE, STATUS_CHANGE = 811, 820
_SEQUENCE_LIMIT = 2**32

Span = tuple[int, int]
"""(first byte, first byte after)."""


@dataclass(frozen=True, slots=True)
class NotificationMessage:
    """One NotificationMessage (OPC 10000-4, 7.25), its values not looked at yet.

    Attributes:
        subscription: its number; 0 where the message does not say.
        sequence: number of the message; of one without content, that of the next.
        has_more: whether values were left for another one.
        device_time: when the server answered, in 100 ns since 1601.
        changes: where DataChangeNotifications are.
        ended: StatusCode with which the subscription ended, if it did.
    """

    data: bytes
    subscription: int
    sequence: int
    has_more: bool
    device_time: int
    changes: tuple[Span, ...]
    ended: int | None
    is_keep_alive: bool


def publish_parameters(acknowledged: Iterable[tuple[int, int]]) -> bytes:
    """What follows the header of a PublishRequest: (subscription, sequence) of the messages that arrived."""
    told = list(acknowledged)
    return struct.pack("<i", len(told)) + b"".join(struct.pack("<II", *one) for one in told)


def republish_parameters(subscription: int, sequence: int) -> bytes:
    """What follows the header of a RepublishRequest."""
    return struct.pack("<II", subscription, sequence)


def read_publish(data: bytes, handle: int) -> tuple[ResponseHead, NotificationMessage | None]:
    """The answer to a PublishRequest; without a notification where the server refused the service.

    Raises:
        ProtocolViolation: it is no such answer.
    """
    walk = Walk(data)
    try:
        head = response_head(walk, PUBLISH, handle)
        if head.result >> 30:
            return head, None
        subscription = walk.uint32()
        walk.skip(4 * max(0, walk.count(4)))
        has_more = walk.byte() != 0
        return head, _message(walk, subscription, has_more, head.device_time)
    except MalformedError as error:
        raise violation("notification", error, data) from error


def read_republish(data: bytes, handle: int, subscription: int) -> tuple[ResponseHead, NotificationMessage | None]:
    """The answer to a RepublishRequest, as `read_publish`."""
    walk = Walk(data)
    try:
        head = response_head(walk, REPUBLISH, handle)
        return head, None if head.result >> 30 else _message(walk, subscription, False, head.device_time)
    except MalformedError as error:
        raise violation("notification", error, data) from error


def following(sequence: int) -> int:
    """The sequence number after this one; there is no 0 (OPC 10000-4, 7.25)."""
    return (sequence + 1) % _SEQUENCE_LIMIT or 1


def is_before(sequence: int, other: int) -> bool:
    """Whether a sequence number was given before another one, over the wrap too."""
    return 0 < (other - sequence) % _SEQUENCE_LIMIT < _SEQUENCE_LIMIT // 2


def _message(walk: Walk, subscription: int, has_more: bool, device_time: int) -> NotificationMessage:
    sequence = walk.uint32()
    walk.skip(8)
    count = walk.count(4)
    changes: list[Span] = []
    ended = None
    for _ in range(max(0, count)):
        kind, first, end = _content(walk)
        if kind == DATA_CHANGE:
            changes.append((first, end))
        elif kind == STATUS_CHANGE:
            ended = Walk(walk.data, first, end).uint32()
    return NotificationMessage(
        walk.data, subscription, sequence, has_more, device_time, tuple(changes), ended, is_keep_alive=count <= 0
    )


def _content(walk: Walk) -> tuple[int, int, int]:
    """Pass one structure of a notification: (type, first byte, first byte after)."""
    at = walk.at
    walk.extension_object()
    first, size = walk.bodies.get(at, (walk.at, 0))
    type_id = Walk(walk.data, at)
    encoding = type_id.byte()
    if encoding == 1:
        type_id.byte()
        kind = type_id.byte() | type_id.byte() << 8
    else:
        type_id.skip(2 if encoding == 2 else 0)
        kind = type_id.uint32() if encoding == 2 else 0
    return kind, first, first + max(0, size)
