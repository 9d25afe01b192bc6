"""CIP requests that only read, replies, and types (CIP Vol 1, 2-4 and appendices A to C; 1756-PM020, CIP Services).

This module is the only one that builds requests, and it has an allow-list of services.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivers.ethernetip.address import AttributeAddress, Part
from drivers.ethernetip.times import ENCODINGS, codes_of
from edge.errors import ProtocolViolation
from edge.model import DataType, TimeKind

GET_ALL, GET_LIST, GET_SINGLE = 0x01, 0x03, 0x0E
MULTIPLE = 0x0A
READ, READ_FRAGMENT = 0x4C, 0x52
INSTANCES = 0x55
FORWARD_OPEN, LARGE_FORWARD_OPEN, FORWARD_CLOSE, UNCONNECTED_SEND = 0x54, 0x5B, 0x4E, 0x52
REPLY = 0x80

IDENTITY, SYMBOLS, TEMPLATES, WALL_CLOCK, CHANGES = 0x01, 0x6B, 0x6C, 0x8B, 0xAC

_ROUTER_PATH = b"\x20\x02\x24\x01"
_MANAGER_PATH = b"\x20\x06\x24\x01"
_SYMBOL = 0x91

UNCONNECTED_BYTES = 504
"""Most bytes of an unconnected message, and of a connection that is not large."""
MULTIPLE_REQUEST_BYTES = 8  # Service, path and count; two more and the request itself for each.
MULTIPLE_ANSWER_BYTES = 6
_COUNT = struct.Struct("<H")
_OPEN = struct.Struct("<BBIIHHIB3x")
_OPENED = struct.Struct("<IIHHI")
_SECONDS_TICKS = b"\x0a\x05"  # Five ticks of 1024 ms: the time limit of a request on the backplane.
_QUESTION_AT = 10  # In an Unconnected Send.


@dataclass(frozen=True, slots=True)
class Question:
    """One request that can only read; `data` is service, path and what follows."""

    data: bytes

    def __post_init__(self) -> None:
        if not _is_reading(self.data):
            raise ValueError(f"{self.data[:16].hex(' ')} is not one of the reading services")


@dataclass(frozen=True, slots=True)
class ConnectionRequest:
    """Opening or closing a connection to the message router of a device."""

    data: bytes

    def __post_init__(self) -> None:
        if self.data[0] not in (FORWARD_OPEN, LARGE_FORWARD_OPEN, FORWARD_CLOSE) or self.data[2:6] != _MANAGER_PATH:
            raise ValueError(f"{self.data[:16].hex(' ')} neither opens nor closes a connection")


@dataclass(frozen=True, slots=True)
class Routed:
    """A question to a device behind others, in an Unconnected Send with its route (CIP Vol 1, 3-5.5.4)."""

    data: bytes

    @staticmethod
    def question_bytes(route: bytes) -> int:
        """Most bytes of an unconnected question, less the Unconnected Send around it where there is a route."""
        return UNCONNECTED_BYTES - (13 + len(route) if route else 0)

    @classmethod
    def through(cls, question: Question, route: bytes) -> Routed:
        """A question for the device at the end of a route."""
        length = len(question.data)
        size = _COUNT.pack(length)
        way = bytes((len(route) // 2, 0)) + route
        head = bytes((UNCONNECTED_SEND, 2)) + _MANAGER_PATH + _SECONDS_TICKS
        return cls(head + size + question.data + bytes(length % 2) + way)

    def is_lost(self, answer: bytes) -> bool:
        """Whether a device on the route answered that it could not pass the question on."""
        if answer[:1] != bytes((UNCONNECTED_SEND | REPLY,)):
            return False
        # Read Tag Fragmented has the same service number: its answers differ in their status only.
        return self.data[_QUESTION_AT] != READ_FRAGMENT or answer[2:3] == b"\x01"


Sendable = Question | ConnectionRequest | Routed


def _is_reading(data: bytes) -> bool:
    """Whether a request is one of the reading services, on an object where that code means reading."""
    if len(data) < 2 or len(data) < 2 + 2 * data[1]:
        return False
    service, path = data[0], data[2 : 2 + 2 * data[1]]
    if service in (GET_ALL, GET_LIST, GET_SINGLE):
        return bool(path) and path[0] in (0x20, 0x21)
    if service == MULTIPLE:
        return path == _ROUTER_PATH and all(map(_is_reading, _parts(data[6:])))
    if service == READ:
        return _is_symbolic(path) or path[:2] == bytes((0x20, TEMPLATES))
    if service == READ_FRAGMENT:
        return _is_symbolic(path)
    return service == INSTANCES and bytes((0x20, SYMBOLS)) in path


def _is_symbolic(path: bytes) -> bool:
    return path[:1] == bytes((_SYMBOL,))


def _parts(data: bytes) -> list[bytes]:
    (count,) = _COUNT.unpack_from(data)
    starts = [*struct.unpack_from(f"<{count}H", data, 2), len(data)]
    return [data[start:end] for start, end in pairwise(starts)]


# Paths.


def symbolic_path(parts: Sequence[Part]) -> bytes:
    """Names and element numbers as segments (CIP Vol 1, C-1.4)."""
    segments = []
    for part in parts:
        name = part.name.encode("ascii")
        segments.append(bytes((_SYMBOL, len(name))) + name + bytes(len(name) % 2))
        segments += [_logical(0x28, index) for index in part.indices]
    return b"".join(segments)


def object_path(class_id: int, instance: int | None = None, attribute: int | None = None) -> bytes:
    """Class, instance and attribute as segments."""
    path = _logical(0x20, class_id)
    if instance is not None:
        path += _logical(0x24, instance)
    return path if attribute is None else path + _logical(0x30, attribute)


def route_path(route: Sequence[tuple[int, int | str]]) -> bytes:
    """Ports and links as segments (CIP Vol 1, C-1.4.1)."""
    segments = []
    for port, link in route:
        if isinstance(link, int):
            segments.append(bytes((port, link)))
        else:
            name = link.encode("ascii")
            segments.append(bytes((port | 0x10, len(name))) + name + bytes(len(name) % 2))
    return b"".join(segments)


def _logical(kind: int, number: int) -> bytes:
    if number <= 0xFF:
        return bytes((kind, number))
    if number <= 0xFFFF:
        return struct.pack("<BxH", kind | 1, number)
    return struct.pack("<BxI", kind | 2, number)


def _request(service: int, path: bytes, data: bytes = b"") -> bytes:
    return bytes((service, len(path) // 2)) + path + data


# Questions.


def read_tag(path: bytes, elements: int) -> Question:
    """Read elements of a tag."""
    return Question(_request(READ, path, _COUNT.pack(elements)))


def read_fragment(path: bytes, elements: int, offset: int) -> Question:
    """Read as much of a tag as fits, from a byte offset on."""
    return Question(_request(READ_FRAGMENT, path, struct.pack("<HI", elements, offset)))


def get_single(where: AttributeAddress) -> Question:
    """One attribute."""
    return Question(_request(GET_SINGLE, object_path(where.class_id, where.instance, where.attribute)))


def get_list(class_id: int, instance: int, attributes: Sequence[int]) -> Question:
    """Several attributes, each with its status."""
    numbers = struct.pack(f"<{1 + len(attributes)}H", len(attributes), *attributes)
    return Question(_request(GET_LIST, object_path(class_id, instance), numbers))


def get_all(class_id: int, instance: int) -> Question:
    """All attributes of an object."""
    return Question(_request(GET_ALL, object_path(class_id, instance)))


def changes() -> Question:
    """The change counters of a controller's program (1756-PM020, How to detect changes)."""
    return get_list(CHANGES, 1, (1, 2, 3, 4, 10))


NAME, TYPE, DIMENSIONS = 1, 2, 8
"""Attributes of a symbol."""


def list_symbols(program: str, first: int, attributes: Sequence[int] = (NAME, TYPE, DIMENSIONS)) -> Question:
    """Attributes of the symbols of a program, or of the controller, from an instance on."""
    scope = symbolic_path([Part(program)]) if program else b""
    numbers = struct.pack(f"<{1 + len(attributes)}H", len(attributes), *attributes)
    return Question(_request(INSTANCES, scope + object_path(SYMBOLS, first), numbers))


def read_template(instance: int, offset: int, size: int) -> Question:
    """Bytes of the definition of a structure."""
    return Question(_request(READ, object_path(TEMPLATES, instance), struct.pack("<IH", offset, size)))


def multiple(questions: Sequence[Question]) -> Question:
    """Several questions in one packet (CIP Vol 1, A-4.10)."""
    offset, starts = 2 + 2 * len(questions), []
    for question in questions:
        starts.append(offset)
        offset += len(question.data)
    head = struct.pack(f"<{1 + len(starts)}H", len(starts), *starts)
    return Question(_request(MULTIPLE, _ROUTER_PATH, head + b"".join(question.data for question in questions)))


# Connections (CIP Vol 1, 3-5.5).

_CLASS_3 = 0xA3  # Server, application triggered, transport class 3: questions and answers.
_MULTIPLIER = 3  # The device closes a connection after 32 intervals without a message.
_POINT_TO_POINT_VARIABLE = 0x4200


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOpen:
    """One connection to ask for; its four ids are its own, so that no other connection's answer can match.

    Attributes:
        size: most bytes of a message; over 511 it takes the large service.
        interval_us: requested packet interval.
    """

    target_id: int
    serial: int
    vendor: int
    originator: int
    route: bytes
    size: int
    interval_us: int

    def open_request(self) -> ConnectionRequest:
        """Ask the device for the connection."""
        is_large = self.size > 511
        pack = struct.Struct("<II" if is_large else "<IH").pack
        parameters = _POINT_TO_POINT_VARIABLE << 16 | self.size if is_large else _POINT_TO_POINT_VARIABLE | self.size
        path = self.route + _ROUTER_PATH
        data = (
            _OPEN.pack(*_SECONDS_TICKS, 0, self.target_id, self.serial, self.vendor, self.originator, _MULTIPLIER)
            + 2 * pack(self.interval_us, parameters)
            + bytes((_CLASS_3, len(path) // 2)) + path
        )  # fmt: skip
        return ConnectionRequest(_request(LARGE_FORWARD_OPEN if is_large else FORWARD_OPEN, _MANAGER_PATH, data))

    def close_request(self) -> ConnectionRequest:
        """Give the connection back."""
        path = self.route + _ROUTER_PATH
        data = _SECONDS_TICKS + struct.pack("<HHI", self.serial, self.vendor, self.originator)
        return ConnectionRequest(_request(FORWARD_CLOSE, _MANAGER_PATH, data + bytes((len(path) // 2, 0)) + path))

    def granted_ids(self, reply: Reply, body: bytes, device: str) -> tuple[int, int]:
        """The ids of the granted connection, for messages to us and to the device.

        Raises:
            ProtocolViolation: it is another connection than the one asked for.
        """
        size_bytes = reply.end - reply.start
        if size_bytes < _OPENED.size:
            raise ProtocolViolation(f"{device}: answer to Forward Open", f"{_OPENED.size} bytes", size_bytes, body)
        theirs, ours, *whose = _OPENED.unpack_from(body, reply.start)
        if not theirs or (ours, *whose) != (self.target_id, self.serial, self.vendor, self.originator):
            raise ProtocolViolation(f"{device}: connection", "the one that we asked for", "another one", body)
        return ours, theirs


# Types (CIP Vol 1, appendix C-6.1).

STRUCTURE = 0x02A0
"""The type of a structure; a handle follows, the checksum of its definition (1756-PM020, Structures)."""
STRING_HANDLE = 0x0FCE
"""The handle of the STRING of 82 characters that every Logix controller has."""
STRING_CHARACTERS = 82
STRING_CHARACTERS_MAX = 16_000


@dataclass(frozen=True, slots=True)
class CipType:
    """One elementary type; `size` is 0 where it varies."""

    name: str
    code: int
    size: int
    data_type: DataType
    time_kind: TimeKind | None = None

    @property
    def codes(self) -> frozenset[int]:
        """The codes with which such a value comes: a date or time has several encodings."""
        return frozenset((self.code,)) if self.time_kind is None else codes_of(self.time_kind)


_TYPES = (
    CipType("BOOL", 0xC1, 1, DataType.BOOL),
    CipType("SINT", 0xC2, 1, DataType.INT8),
    CipType("INT", 0xC3, 2, DataType.INT16),
    CipType("DINT", 0xC4, 4, DataType.INT32),
    CipType("LINT", 0xC5, 8, DataType.INT64),
    CipType("USINT", 0xC6, 1, DataType.UINT8),
    CipType("UINT", 0xC7, 2, DataType.UINT16),
    CipType("UDINT", 0xC8, 4, DataType.UINT32),
    CipType("ULINT", 0xC9, 8, DataType.UINT64),
    CipType("REAL", 0xCA, 4, DataType.FLOAT32),
    CipType("LREAL", 0xCB, 8, DataType.FLOAT64),
    CipType("BYTE", 0xD1, 1, DataType.UINT8),
    CipType("WORD", 0xD2, 2, DataType.UINT16),
    CipType("DWORD", 0xD3, 4, DataType.UINT32),
    CipType("LWORD", 0xD4, 8, DataType.UINT64),
    CipType("STRING", STRUCTURE, 0, DataType.TEXT),
)
LONG_TEXT, SHORT_TEXT = 0xD0, 0xDA
"""Texts after a length of two bytes, or one, as devices other than Logix controllers have them."""
SHORT_STRING, CHARS = CipType("SHORT_STRING", SHORT_TEXT, 0, DataType.TEXT), CipType("CHARS", 0, 0, DataType.TEXT)
"""Texts in attributes: after a length of one byte, or without one."""
TEXT_WIDTHS = {LONG_TEXT: 2, SHORT_TEXT: 1, CHARS.code: 0}
"""Bytes of the length before such a text."""
_TIME_CODES = {"TIME": (0xDB, 0xD8, 0x09), "TIME32": (0xD6,), "LTIME": (0xD7, 0xDF), "DATE": (0xCD, 0x08),
               "TIME_OF_DAY": (0xCE, 0x0B), "DATE_AND_TIME": (0xCF, 0x0A), "DT": (0xC0,), "LDT": (0xCC,)}  # fmt: skip
_TIMES = [
    CipType(name, code, ENCODINGS[code][0].size, DataType.INT64, ENCODINGS[code][0].kind)
    for name, codes in _TIME_CODES.items()
    for code in reversed(codes)  # In an attribute, which has no code, a name is that of the standard: the first.
]
BY_NAME = {cip_type.name: cip_type for cip_type in (*_TYPES, *_TIMES, SHORT_STRING, CHARS)}
BY_CODE = {cip_type.code: cip_type for cip_type in (*_TYPES, *_TIMES)}
BOOL, DWORD, STRING = BY_NAME["BOOL"], BY_NAME["DWORD"], BY_NAME["STRING"]
INTEGERS = frozenset(cip_type.code for cip_type in _TYPES if cip_type.data_type.numpy.kind in "iu")
"""Types with numbered bits."""
BOOLS_IN_ELEMENT = 32
"""BOOLs in each element of an array of them on the wire."""


def type_name(code: int) -> str:
    """A type code in words."""
    if code in (LONG_TEXT, SHORT_TEXT):
        return "STRING"
    if code == STRUCTURE:
        return "a structure"
    return BY_CODE[code].name if code in BY_CODE else f"type 0x{code:02X}"


def string_bytes(characters: int) -> int:
    """Bytes of a Logix string type: four of length, then the characters, padded to a multiple of four."""
    return 4 + (characters + 3) // 4 * 4


# Replies.

SUCCESS, PATH_SEGMENT, PATH_UNKNOWN, PARTIAL, NOT_SUPPORTED, TOO_LARGE = 0x00, 0x04, 0x05, 0x06, 0x08, 0x11
_TEXTS = {
    0x01: "connection failure", 0x02: "resource unavailable", 0x03: "invalid value of a parameter",
    0x04: "there is no such tag or member", 0x05: "there is no such tag or object",
    0x06: "it has more than fits in one answer", 0x07: "the connection was lost", 0x08: "service not supported",
    0x09: "invalid attribute value", 0x0A: "attribute list error", 0x0B: "it is in the requested state already",
    0x0C: "object state conflict", 0x0D: "the object exists already", 0x0E: "attribute not settable",
    0x0F: "privilege violation: the tag's external access is None", 0x10: "device state conflict",
    0x11: "the answer would be too large", 0x12: "a primitive value would be cut", 0x13: "not enough data",
    0x14: "attribute not supported", 0x15: "too much data", 0x16: "there is no such object",
    0x17: "no fragmented service is in progress", 0x18: "no attribute data was stored",
    0x19: "storing the attribute data failed", 0x1A: "the request is too large for a network on the route",
    0x1B: "the answer is too large for a network on the route", 0x1C: "data of an attribute is missing in the list",
    0x1D: "invalid attribute values in the list", 0x1E: "embedded service error",
    0x1F: "an error that the vendor defines", 0x20: "invalid parameter",
    0x21: "the medium can be written once only, and was", 0x22: "invalid reply received",
    0x23: "the message is larger than its buffer", 0x24: "message format error", 0x25: "key failure in the path",
    0x26: "path size invalid", 0x27: "unexpected attribute in the list", 0x28: "there is no such member",
    0x29: "member not settable", 0x2A: "general failure of a DeviceNet server", 0x2B: "unknown Modbus error",
    0x2C: "attribute not readable", 0x2D: "the instance cannot be deleted", 0x2E: "service not supported for this path",
    0xFF: "general error",
}  # fmt: skip
_OF_THE_OBJECT = range(0xD0, 0xFF)
_EXTENDED = {
    0x2104: "offset beyond the end of the tag",
    0x2105: "there is no such element",
    0x2107: "another type of tag",
    0x8001: "internal error of the controller",  # From here on those of Omron (W506, 8-6-1).
    0x8007: "the variable is not accessible; is it published to the network?",
    0x8009: "it does not take this segment of the address",
    0x800F: "the request has another length than it says",
    0x8010: "the controller starts up, or a program is downloaded",
    0x8011: "error in the tag memory of the controller",
    0x8017: "the variable is no array",
    0x8018: "there is no such element",
    0x8029: "what the address says cannot be read at once",
    0x8031: "the controller has no memory left for the request",
}


def status_text(status: int, extended: int | None = None) -> str:
    """A general status in words (CIP Vol 1, appendix B-1)."""
    code = f"0x{status:02X}" + (f"/0x{extended:04X}" if extended is not None else "")
    own = "an error that the object defines" if status in _OF_THE_OBJECT else "a status that the standard reserves"
    text = _EXTENDED.get(extended or 0) or _TEXTS.get(status, own)
    return f"{text} (CIP status {code})"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one question: its status, and where its data is in the packet."""

    status: int
    extended: int | None
    start: int
    end: int


def reply_of(body: bytes, service: int, start: int = 0, end: int | None = None) -> Reply:
    """The reply in a part of an answer.

    Raises:
        ProtocolViolation: it is malformed, or the answer to another service.
    """
    end = len(body) if end is None else end
    if end - start < 4:
        raise ProtocolViolation("reply", "at least 4 bytes", end - start, body[start:end])
    if body[start] != service | REPLY:
        raise ProtocolViolation(
            "reply service", f"0x{service | REPLY:02X}", f"0x{body[start]:02X}", body[start:end][:64]
        )
    status, words = body[start + 2], body[start + 3]
    data = start + 4 + 2 * words
    if data > end:
        raise ProtocolViolation("extended status", "within the reply", f"{words} words", body[start:end][:64])
    extended = struct.unpack_from("<H", body, start + 4)[0] if words else None
    return Reply(status, extended, data, end)


def printable(text: bytes) -> str:
    """Text of a device, with every character that cannot be printed replaced."""
    return "".join(c if c.isprintable() else "?" for c in text.rstrip(b"\0 ").decode("latin-1"))
