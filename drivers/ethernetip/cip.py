"""CIP requests, reading only (CIP Vol 1, 2-4 and appendices A and C; 1756-PM020, CIP Services).

This module is the only place where a request is made, and it has an allow-list.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivers.ethernetip.address import AttributeAddress, Part
from edge.model import DataType

GET_ALL, GET_LIST, GET_SINGLE = 0x01, 0x03, 0x0E
MULTIPLE = 0x0A
READ, READ_FRAGMENT = 0x4C, 0x52
INSTANCES = 0x55
FORWARD_OPEN, LARGE_FORWARD_OPEN, FORWARD_CLOSE, UNCONNECTED_SEND = 0x54, 0x5B, 0x4E, 0x52
REPLY = 0x80

IDENTITY, ROUTER, MANAGER, SYMBOLS, TEMPLATES, WALL_CLOCK, CHANGES = 0x01, 0x02, 0x06, 0x6B, 0x6C, 0x8B, 0xAC

_ROUTER_PATH = b"\x20\x02\x24\x01"
_MANAGER_PATH = b"\x20\x06\x24\x01"
_SYMBOL = 0x91

UNCONNECTED_BYTES = 504
"""Of a message without a connection, and of a connection that is not large."""
MULTIPLE_REQUEST_BYTES = 8  # Service, path and count; two more and the request itself for each.
MULTIPLE_ANSWER_BYTES = 6
_COUNT = struct.Struct("<H")
_OPEN = struct.Struct("<BBIIHHIB3x")
_SECONDS_TICKS = b"\x0a\x05"  # Five ticks of 1024 ms for a request on its way through the backplane.
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
    """A question that is carried to another device on its route (CIP Vol 1, 3-5.5.4)."""

    data: bytes

    @staticmethod
    def question_bytes(route: bytes) -> int:
        """Most bytes of a question without a connection: what carries it along a route takes some of the message."""
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
        """Whether an answer is that of a device on the way, which could not hand the question on."""
        if answer[:1] != bytes((UNCONNECTED_SEND | REPLY,)):
            return False
        # A fragment is read by a service of the same number: there, only the status tells.
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
    """Ports and what lies behind each as segments (CIP Vol 1, C-1.4.1)."""
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
    """So many elements of a tag."""
    return Question(_request(READ, path, _COUNT.pack(elements)))


def read_fragment(path: bytes, elements: int, offset: int) -> Question:
    """What fits of a tag, from a byte on."""
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
    """The numbers that move with every change of a controller's program (1756-PM020, How to detect changes)."""
    return get_list(CHANGES, 1, (1, 2, 3, 4, 10))


def list_symbols(program: str, first: int) -> Question:
    """Name, type and dimensions of the symbols of a program, or of the controller, from an instance on."""
    scope = symbolic_path([Part(program)]) if program else b""
    return Question(_request(INSTANCES, scope + object_path(SYMBOLS, first), struct.pack("<4H", 3, 1, 2, 8)))


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
_MULTIPLIER = 3  # The device gives a connection up after 32 silent intervals.
_POINT_TO_POINT_VARIABLE = 0x4200


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What names one connection: no other has the same numbers, so that no answer can be another's."""

    target_id: int
    serial: int
    vendor: int
    originator: int


def forward_open(opening: Opening, route: bytes, size: int, interval_us: int) -> ConnectionRequest:
    """Ask for a connection whose messages have up to `size` bytes; over 511 it takes the large service."""
    is_large = size > 511
    pack = struct.Struct("<II" if is_large else "<IH").pack
    parameters = _POINT_TO_POINT_VARIABLE << 16 | size if is_large else _POINT_TO_POINT_VARIABLE | size
    path = route + _ROUTER_PATH
    data = (
        _OPEN.pack(*_SECONDS_TICKS, 0, opening.target_id, opening.serial, opening.vendor, opening.originator,
                   _MULTIPLIER)
        + 2 * pack(interval_us, parameters)
        + bytes((_CLASS_3, len(path) // 2)) + path
    )  # fmt: skip
    return ConnectionRequest(_request(LARGE_FORWARD_OPEN if is_large else FORWARD_OPEN, _MANAGER_PATH, data))


def forward_close(opening: Opening, route: bytes) -> ConnectionRequest:
    """Give a connection back."""
    path = route + _ROUTER_PATH
    data = _SECONDS_TICKS + struct.pack("<HHI", opening.serial, opening.vendor, opening.originator)
    return ConnectionRequest(_request(FORWARD_CLOSE, _MANAGER_PATH, data + bytes((len(path) // 2, 0)) + path))


STRUCTURE = 0x02A0
"""Before a structure: the next two bytes are its handle, a checksum of its definition (1756-PM020, Structures)."""
STRING_HANDLE = 0x0FCE
"""The handle of the STRING of 82 characters that every Logix controller has."""
STRING_CHARACTERS = 82
STRING_CHARACTERS_MAX = 16_000


@dataclass(frozen=True, slots=True)
class CipType:
    """One elementary type; `size` is 0 where it depends."""

    name: str
    code: int
    size: int
    data_type: DataType


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
BY_NAME = {cip_type.name: cip_type for cip_type in _TYPES}
BY_CODE = {cip_type.code: cip_type for cip_type in _TYPES}
BOOL, DWORD, STRING = BY_NAME["BOOL"], BY_NAME["DWORD"], BY_NAME["STRING"]
LONG_TEXT, SHORT_TEXT = 0xD0, 0xDA
"""Texts with a length in front, of two bytes and of one: what other devices than Logix controllers have."""
INTEGERS = frozenset(cip_type.code for cip_type in _TYPES if cip_type.data_type.numpy.kind in "iu")
"""Types with numbered bits."""
BOOLS_IN_ELEMENT = 32
"""Of an array of BOOL, in each element on the wire."""


def type_name(code: int) -> str:
    """A type code in words."""
    if code in (LONG_TEXT, SHORT_TEXT):
        return "STRING"
    if code == STRUCTURE:
        return "a structure"
    return BY_CODE[code].name if code in BY_CODE else f"type 0x{code:02X}"


def string_bytes(characters: int) -> int:
    """Bytes of a Logix string type: its length in four bytes, its characters, filled up to four."""
    return 4 + (characters + 3) // 4 * 4
