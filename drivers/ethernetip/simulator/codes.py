"""Numbers of the protocol: services, classes, statuses.

CIP Vol 1 appendices A and B and chapters 3 and 5; 1756-PM020 for what is Rockwell's own.
"""

from __future__ import annotations

from enum import IntEnum


class Service(IntEnum):
    """Services that only read; all others are refused and counted."""

    GET_ATTRIBUTES_ALL = 0x01
    GET_ATTRIBUTE_LIST = 0x03
    MULTIPLE_SERVICE_PACKET = 0x0A
    GET_ATTRIBUTE_SINGLE = 0x0E
    FIND_NEXT_INSTANCE = 0x11
    GET_MEMBER = 0x18
    READ_TAG = 0x4C
    READ_TAG_FRAGMENTED = 0x52
    GET_INSTANCE_ATTRIBUTE_LIST = 0x55


class ConnectionService(IntEnum):
    """Services of the connection manager; some share their number with a service of other objects."""

    FORWARD_CLOSE = 0x4E
    UNCONNECTED_SEND = 0x52
    FORWARD_OPEN = 0x54
    LARGE_FORWARD_OPEN = 0x5B


class Class(IntEnum):
    """Classes of objects."""

    IDENTITY = 0x01
    MESSAGE_ROUTER = 0x02
    CONNECTION_MANAGER = 0x06
    PROGRAM_NAME = 0x64
    SYMBOL = 0x6B
    TEMPLATE = 0x6C
    WALL_CLOCK = 0x8B
    CHANGES = 0xAC


class Status(IntEnum):
    """General status of an answer."""

    SUCCESS = 0x00
    CONNECTION_FAILURE = 0x01
    INVALID_PARAMETER = 0x03
    PATH_SEGMENT_ERROR = 0x04
    PATH_DESTINATION_UNKNOWN = 0x05
    PARTIAL_TRANSFER = 0x06
    SERVICE_NOT_SUPPORTED = 0x08
    ATTRIBUTE_LIST_ERROR = 0x0A
    ATTRIBUTE_NOT_SETTABLE = 0x0E
    PRIVILEGE_VIOLATION = 0x0F
    REPLY_TOO_LARGE = 0x11
    NOT_ENOUGH_DATA = 0x13
    ATTRIBUTE_NOT_SUPPORTED = 0x14
    TOO_MUCH_DATA = 0x15
    EMBEDDED_SERVICE_ERROR = 0x1E
    PATH_SIZE_INVALID = 0x26
    GENERAL_ERROR = 0xFF


class Extended(IntEnum):
    """Extended status, under CONNECTION_FAILURE and, the last two, under GENERAL_ERROR."""

    CONNECTION_IN_USE = 0x0100
    TRANSPORT_CLASS_NOT_SUPPORTED = 0x0103
    CONNECTION_NOT_FOUND = 0x0107
    INVALID_CONNECTION_TYPE = 0x0108
    INVALID_CONNECTION_SIZE = 0x0109
    OUT_OF_CONNECTIONS = 0x0113
    PORT_NOT_AVAILABLE = 0x0311
    LINK_ADDRESS_NOT_VALID = 0x0312
    SEGMENT_NOT_VALID = 0x0315
    BEYOND_END = 0x2105


class CipError(Exception):
    """A request that the controller refuses.

    Attributes:
        status: general status of the answer.
        extended: extended status of the answer, in 16-bit words.
        data: data of the answer in spite of the error.
    """

    def __init__(self, status: int, *extended: int, data: bytes = b"") -> None:
        super().__init__(f"status 0x{status:02X}" + "".join(f" 0x{word:04X}" for word in extended))
        self.status = status
        self.extended = extended
        self.data = data


def beyond_end() -> CipError:
    """The error for an element or offset beyond the end of a tag."""
    return CipError(Status.GENERAL_ERROR, Extended.BEYOND_END)


def unknown_name() -> CipError:
    """The error for an unknown symbol, or a malformed path segment."""
    return CipError(Status.PATH_SEGMENT_ERROR, 0)


def unknown_instance() -> CipError:
    """The error for an unknown class or instance."""
    return CipError(Status.PATH_DESTINATION_UNKNOWN, 0)
