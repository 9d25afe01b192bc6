"""Messages of the services that may be requested, as bytes: reading ones only.

Services are known by the number of their request's binary encoding (OPC 10000-6, A.3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from drivers.opcua.binary import EXTENSION_OBJECT, STRING, BinaryReader, MalformedError
from drivers.opcua.plan import NODES_PER_READ
from edge.errors import ProtocolViolation

READING_SERVICES = {
    422: "FindServers", 428: "GetEndpoints", 446: "OpenSecureChannel", 452: "CloseSecureChannel",
    461: "CreateSession", 467: "ActivateSession", 473: "CloseSession",
    527: "Browse", 533: "BrowseNext", 554: "TranslateBrowsePathsToNodeIds", 631: "Read",
    751: "CreateMonitoredItems", 763: "ModifyMonitoredItems", 781: "DeleteMonitoredItems",
    787: "CreateSubscription", 793: "ModifySubscription", 799: "SetPublishingMode", 826: "Publish", 832: "Republish",
    841: "TransferSubscriptions", 847: "DeleteSubscriptions",
}  # fmt: skip
"""None of them changes a value, a node or anything else that another client of the server can see."""

SERVICE_FAULT, READ = 397, 631
CREATE_MONITORED_ITEMS, CREATE_SUBSCRIPTION, PUBLISH, REPUBLISH = 751, 787, 826, 832
TRANSFER_SUBSCRIPTIONS, DELETE_SUBSCRIPTIONS = 841, 847
_FILE_TIME_PER_NS = 100
_UNIX_EPOCH = 116_444_736_000_000_000
_HEAD = struct.Struct("<qIIiI3x")
_KEPT_BYTES = 260


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The ResponseHeader (OPC 10000-4, 7.33).

    Attributes:
        device_time: when the server sent it, in 100 ns since 1601.
        result: StatusCode of the whole service.
    """

    device_time: int
    result: int


class ServiceFaultError(Exception):
    """The server refused the whole request; `code` is its StatusCode."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"{code:#010x}")


class ServiceRequest:
    """A request of a reading service, by the bytes of its parameters."""

    def __init__(self, service: int, token: bytes, parameters: bytes, timeout_ms: int = 0) -> None:
        """Args:
        token: the session's authentication token as it is on the wire.
        timeout_ms: when the server may give up; 0 is never.
        """  # fmt: skip
        if service not in READING_SERVICES:
            raise ValueError(f"service {service} is not one of the reading ones")
        self._type = struct.pack("<BBH", 1, 0, service) + token
        self._parameters, self._timeout_ms = parameters, timeout_ms

    def __len__(self) -> int:
        """Bytes of the message."""
        return len(self._type) + _HEAD.size + len(self._parameters)

    def body(self, handle: int, utc_ns: int) -> bytes:
        """The message, with its header (OPC 10000-4, 7.32)."""
        file_time = utc_ns // _FILE_TIME_PER_NS + _UNIX_EPOCH
        return self._type + _HEAD.pack(file_time, handle, 0, -1, self._timeout_ms) + self._parameters


def response_head(reader: BinaryReader, service: int, handle: int) -> ResponseHead:
    """Read type and header of the response to a service's request with this handle.

    Raises:
        ProtocolViolation: it is the response to another request.
        MalformedError: it is no OPC UA.
    """
    kind = _type_id(reader)
    if kind not in (service + 3, SERVICE_FAULT):
        raise ProtocolViolation("answer", f"one to {READING_SERVICES[service]}", kind, reader.data[:_KEPT_BYTES])
    device_time, got, result = struct.unpack_from("<qII", reader.data, reader.skip(16))
    if got != handle:
        raise ProtocolViolation("request handle", handle, got, reader.data[:_KEPT_BYTES])
    reader.diagnostic_info()
    for _ in range(max(0, reader.count(4))):
        reader.value(STRING)
    reader.value(EXTENSION_OBJECT)
    if kind == SERVICE_FAULT and not result >> 30:
        raise MalformedError("a ServiceFault without a fault", 0)
    return ResponseHead(device_time, result)


def violation(what: str, error: MalformedError, data: bytes) -> ProtocolViolation:
    """The error for a malformed message, with the bytes around the place."""
    around = data[max(0, error.at - _KEPT_BYTES // 2) :][:_KEPT_BYTES]
    return ProtocolViolation(what, "OPC UA", str(error), around)


def _type_id(reader: BinaryReader) -> int:
    encoding = reader.byte()
    if encoding == 1:
        reader.byte()
        return reader.byte() | reader.byte() << 8
    if encoding == 2:
        reader.skip(2)
        return reader.uint32()
    raise MalformedError(f"a service with the encoding {encoding:#04x}", reader.at - 1)


VALUE = 13
_SOURCE_TIMES = 0
_OF_VALUE = struct.pack("<IiHi", VALUE, -1, 0, -1)  # All of it, in the default encoding.


class ReadRequest(ServiceRequest):
    """A Read of the values of nodes, with source timestamps and MaxAge 0 (OPC 10000-4, 5.10.2).

    Attributes:
        count: how many nodes.
    """

    def __init__(self, nodes: Sequence[bytes], token: bytes, timeout_ms: int) -> None:
        """See `ServiceRequest`; `nodes` are NodeIds as they are on the wire."""
        head = struct.pack("<dii", 0.0, _SOURCE_TIMES, len(nodes))
        super().__init__(READ, token, b"".join([head, *[node + _OF_VALUE for node in nodes]]), timeout_ms)
        self.count = len(nodes)


def node_id(identifier: int | str | UUID | bytes, index: int) -> bytes:
    """A NodeId on the wire (OPC 10000-6, 5.2.2.9), in its shortest encoding."""
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
    """How many nodes a request may hold, as learned from the server's refusals; it outlives a session.

    Attributes:
        answered: the most nodes of a request that was answered.
    """

    def __init__(self) -> None:
        self._learned = self.answered = 0

    def within(self, wanted: int, allowed: int) -> int:
        """Nodes in one request, given the limits in the settings and of the server; 0 where there is no limit."""
        return min(filter(None, (wanted or NODES_PER_READ, allowed, self._learned)))

    def halve(self, count: int) -> bool:
        """Request half as many from now on; False where that is not possible."""
        self._learned = max(1, count // 2)
        return count > 1

    def note_answer(self, count: int) -> None:
        """The server answered a request for this many."""
        self.answered = max(self.answered, count)

    def note_loss(self, count: int) -> None:
        """The connection ended over a request for this many: request less if none so large was answered yet.

        Some servers close the connection over a request that is too large.
        """
        if count > self.answered:
            self.halve(count)


DATA_CHANGE, STATUS_CHANGE = 811, 820
_SEQUENCE_LIMIT = 2**32

Span = tuple[int, int]
"""(first byte, first byte after)."""


@dataclass(frozen=True, slots=True)
class NotificationMessage:
    """One NotificationMessage (OPC 10000-4, 7.25), its values not decoded yet.

    Attributes:
        subscription: its SubscriptionId; 0 where the message does not say.
        sequence: its sequence number; a keep-alive has that of the next message.
        has_more: MoreNotifications: values were left for another message.
        device_time: timestamp of the response, in 100 ns since 1601.
        changes: the spans of its DataChangeNotifications.
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
    """Parameters of a PublishRequest that acknowledges messages by (subscription, sequence)."""
    pairs = list(acknowledged)
    return struct.pack("<i", len(pairs)) + b"".join(struct.pack("<II", *pair) for pair in pairs)


def republish_parameters(subscription: int, sequence: int) -> bytes:
    """Parameters of a RepublishRequest."""
    return struct.pack("<II", subscription, sequence)


def read_publish(data: bytes, handle: int) -> tuple[ResponseHead, NotificationMessage | None]:
    """The response to a PublishRequest; without a message where the server refused the service.

    Raises:
        ProtocolViolation: it is no such response.
    """
    reader = BinaryReader(data)
    try:
        head = response_head(reader, PUBLISH, handle)
        if head.result >> 30:
            return head, None
        subscription = reader.uint32()
        reader.skip(4 * max(0, reader.count(4)))
        has_more = reader.byte() != 0
        return head, _message(reader, subscription, has_more, head.device_time)
    except MalformedError as error:
        raise violation("notification", error, data) from error


def read_republish(data: bytes, handle: int, subscription: int) -> tuple[ResponseHead, NotificationMessage | None]:
    """The response to a RepublishRequest, as `read_publish`."""
    reader = BinaryReader(data)
    try:
        head = response_head(reader, REPUBLISH, handle)
        return head, None if head.result >> 30 else _message(reader, subscription, False, head.device_time)
    except MalformedError as error:
        raise violation("notification", error, data) from error


def following(sequence: int) -> int:
    """The sequence number after this one; there is no 0 (OPC 10000-4, 7.25)."""
    return (sequence + 1) % _SEQUENCE_LIMIT or 1


def is_before(sequence: int, other: int) -> bool:
    """Whether a sequence number precedes another one, across the wrap too."""
    return 0 < (other - sequence) % _SEQUENCE_LIMIT < _SEQUENCE_LIMIT // 2


def _message(reader: BinaryReader, subscription: int, has_more: bool, device_time: int) -> NotificationMessage:
    sequence = reader.uint32()
    reader.skip(8)
    count = reader.count(4)
    changes: list[Span] = []
    ended = None
    for _ in range(max(0, count)):
        kind, first, end = _content(reader)
        if kind == DATA_CHANGE:
            changes.append((first, end))
        elif kind == STATUS_CHANGE:
            ended = BinaryReader(reader.data, first, end).uint32()
    return NotificationMessage(
        reader.data, subscription, sequence, has_more, device_time, tuple(changes), ended, is_keep_alive=count <= 0
    )


def _content(reader: BinaryReader) -> tuple[int, int, int]:
    """Skip one structure of a notification: (type, first byte, first byte after)."""
    at = reader.at
    reader.extension_object()
    first, size = reader.bodies.get(at, (reader.at, 0))
    type_id = BinaryReader(reader.data, at)
    encoding = type_id.byte()
    if encoding == 1:
        type_id.byte()
        kind = type_id.byte() | type_id.byte() << 8
    else:
        type_id.skip(2 if encoding == 2 else 0)
        kind = type_id.uint32() if encoding == 2 else 0
    return kind, first, first + max(0, size)


_REPORTING = 2
_STATUS_VALUE, _ABSOLUTE = 1, 1
_NO_FILTER = b"\0\0\0"
_SLOWEST_MS = 7 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Revised:
    """The revised parameters of a created subscription; times in ms."""

    subscription: int
    publishing_ms: float
    lifetime_count: int
    keep_alive_count: int


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """A MonitoredItemCreateRequest.

    Attributes:
        handle: ClientHandle, which names it in notifications.
        node_id: as it is on the wire.
    """

    handle: int
    node_id: bytes
    sampling_ms: float
    queue: int
    deadband: float


@dataclass(frozen=True, slots=True)
class ItemResult:
    """A MonitoredItemCreateResult; `status` is Bad where there is no item."""

    status: int
    sampling_ms: float
    queue: int


def create_subscription(publishing_ms: float, lifetime_count: int, keep_alive_count: int) -> bytes:
    """Parameters of a CreateSubscriptionRequest, with no limit of values in a notification."""
    return struct.pack("<dIII?B", publishing_ms, lifetime_count, keep_alive_count, 0, True, 0)


def read_created(data: bytes, handle: int) -> Revised:
    """The response to it. Raises ServiceFaultError and ProtocolViolation."""
    reader = _answer(data, handle, CREATE_SUBSCRIPTION)
    try:
        revised = Revised(*struct.unpack_from("<IdII", data, reader.skip(20)))
    except MalformedError as error:
        raise violation("subscription", error, data) from error
    if not 0 <= revised.publishing_ms <= _SLOWEST_MS:  # NaN is outside too.
        expected = f"0 to {_SLOWEST_MS:g} ms"
        raise ProtocolViolation("publishing interval", expected, revised.publishing_ms, data[:_KEPT_BYTES])
    return revised


def create_items(subscription: int, items: Sequence[ItemRequest]) -> bytes:
    """Parameters of a CreateMonitoredItemsRequest; a full queue drops its oldest value."""
    parts = [struct.pack("<Iii", subscription, _SOURCE_TIMES, len(items))]
    for item in items:
        parts += (
            item.node_id, _OF_VALUE, struct.pack("<iId", _REPORTING, item.handle, item.sampling_ms),
            _filter(item.deadband), struct.pack("<I?", item.queue, True),
        )  # fmt: skip
    return b"".join(parts)


def read_items(data: bytes, handle: int, count: int) -> list[ItemResult]:
    """The response to it. Raises ServiceFaultError and ProtocolViolation."""
    reader = _answer(data, handle, CREATE_MONITORED_ITEMS)
    try:
        _expect("number of monitored items", count, reader.count(21), data)
        return [_item(reader) for _ in range(count)]
    except MalformedError as error:
        raise violation("monitored items", error, data) from error


def transfer_subscription(subscription: int) -> bytes:
    """Parameters of a TransferSubscriptionsRequest, with SendInitialValues."""
    return struct.pack("<iI?", 1, subscription, True)


def read_transferred(data: bytes, handle: int) -> tuple[int, list[int]]:
    """The response to it: status, and available sequence numbers. Raises ServiceFaultError and ProtocolViolation."""
    reader = _answer(data, handle, TRANSFER_SUBSCRIPTIONS)
    try:
        _expect("number of subscriptions", 1, reader.count(8), data)
        return reader.uint32(), [reader.uint32() for _ in range(max(0, reader.count(4)))]
    except MalformedError as error:
        raise violation("transferred subscription", error, data) from error


def delete_subscription(subscription: int) -> bytes:
    """Parameters of a DeleteSubscriptionsRequest."""
    return struct.pack("<iI", 1, subscription)


def _filter(deadband: float) -> bytes:
    """A DataChangeFilter (OPC 10000-4, 7.22.2) with an absolute deadband; no filter for 0."""
    if not deadband:
        return _NO_FILTER
    return struct.pack("<BBHBiiId", 1, 0, 724, 1, 16, _STATUS_VALUE, _ABSOLUTE, deadband)


def _item(reader: BinaryReader) -> ItemResult:
    status, _, sampling_ms, queue = struct.unpack_from("<IIdI", reader.data, reader.skip(20))
    reader.value(EXTENSION_OBJECT)
    return ItemResult(status, sampling_ms, queue)


def _answer(data: bytes, handle: int, service: int) -> BinaryReader:
    reader = BinaryReader(data)
    try:
        head = response_head(reader, service, handle)
    except MalformedError as error:
        raise violation("answer", error, data) from error
    if head.result >> 30:
        raise ServiceFaultError(head.result)
    return reader


def _expect(what: str, expected: int, got: int, data: bytes) -> None:
    if got != expected:
        raise ProtocolViolation(what, expected, got, data[:_KEPT_BYTES])
