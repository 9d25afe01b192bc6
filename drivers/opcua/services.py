"""The services that may be asked for: reading ones. Whatever we put on the wire ourselves is made here.

Services are known by the number of their request's binary encoding (OPC 10000-6, A.3).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.opcua.walk import EXTENSION_OBJECT, STRING, MalformedError, Walk
from edge.errors import ProtocolViolation

READING_SERVICES = {
    422: "FindServers", 428: "GetEndpoints", 446: "OpenSecureChannel", 452: "CloseSecureChannel",
    461: "CreateSession", 467: "ActivateSession", 473: "CloseSession",
    527: "Browse", 533: "BrowseNext", 554: "TranslateBrowsePathsToNodeIds", 631: "Read",
    751: "CreateMonitoredItems", 763: "ModifyMonitoredItems", 781: "DeleteMonitoredItems",
    787: "CreateSubscription", 793: "ModifySubscription", 799: "SetPublishingMode", 826: "Publish", 832: "Republish",
    841: "TransferSubscriptions", 847: "DeleteSubscriptions",
}  # fmt: skip
"""None of them changes a value, a node or anything else that another client of the server could see."""

SERVICE_FAULT, READ = 397, 631
CREATE_MONITORED_ITEMS, CREATE_SUBSCRIPTION, PUBLISH, REPUBLISH = 751, 787, 826, 832
TRANSFER_SUBSCRIPTIONS, DELETE_SUBSCRIPTIONS = 841, 847
_FILE_TIME_PER_NS = 100
_UNIX_EPOCH = 116_444_736_000_000_000
_HEAD = struct.Struct("<qIIiI3x")
_KEPT_BYTES = 260


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The header of an answer (OPC 10000-4, 7.33).

    Attributes:
        device_time: when the server sent it, in 100 ns since 1601.
        result: StatusCode of the whole service.
    """

    device_time: int
    result: int


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


def response_head(walk: Walk, service: int, handle: int) -> ResponseHead:
    """Pass type and header of the answer to the request of a service with this handle.

    Raises:
        ProtocolViolation: it is the answer to another one.
        MalformedError: it is no OPC UA.
    """
    kind = _type_id(walk)
    if kind not in (service + 3, SERVICE_FAULT):
        raise ProtocolViolation("answer", f"one to {READING_SERVICES[service]}", kind, walk.data[:_KEPT_BYTES])
    device_time, got, result = struct.unpack_from("<qII", walk.data, walk.skip(16))
    if got != handle:
        raise ProtocolViolation("request handle", handle, got, walk.data[:_KEPT_BYTES])
    walk.diagnostic_info()
    for _ in range(max(0, walk.count(4))):
        walk.value(STRING)
    walk.value(EXTENSION_OBJECT)
    if kind == SERVICE_FAULT and not result >> 30:
        raise MalformedError("a ServiceFault without a fault", 0)
    return ResponseHead(device_time, result)


def violation(what: str, error: MalformedError, data: bytes) -> ProtocolViolation:
    """A broken answer, with its bytes around the place where it breaks."""
    around = data[max(0, error.at - _KEPT_BYTES // 2) :][:_KEPT_BYTES]
    return ProtocolViolation(what, "OPC UA", str(error), around)


def _type_id(walk: Walk) -> int:
    encoding = walk.byte()
    if encoding == 1:
        walk.byte()
        return walk.byte() | walk.byte() << 8
    if encoding == 2:
        walk.skip(2)
        return walk.uint32()
    raise MalformedError(f"a service with the encoding {encoding:#04x}", walk.at - 1)
