"""Data types of a Logix controller: atomic types, arrays and structures, and the memory layout of their values.

CIP Vol 1 appendix C for the codes of atomic types; 1756-PM020, "Tag type values" and "Template object", for the rest.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

STRUCTURE = 0x8000
DIMENSION = 0x2000
_STRUCTURE_READ = b"\xa0\x02"


@dataclass(frozen=True)
class Atomic:
    """An atomic type; `REAL[10]` and `REAL[2, 3]` are arrays of it."""

    name: str
    code: int
    format: str
    size: int
    alignment: int

    def __getitem__(self, dimensions: int | tuple[int, ...]) -> Array:
        return array(self, dimensions)

    @property
    def symbol_type(self) -> int:
        """Its code in a tag list."""
        return self.code

    @property
    def reply_type(self) -> bytes:
        """Its code in the answer to a read."""
        return self.code.to_bytes(2, "little")

    def encode(self, value: Any) -> bytes:
        """The bytes of a value in memory."""
        if self is BOOL:
            return b"\xff" if value else b"\x00"  # A controller's answer for a true BOOL.
        if self is SHORT_STRING:
            text = (value.encode() if isinstance(value, str) else bytes(value))[: self.size - 1]
            return (bytes((len(text),)) + text).ljust(self.size, b"\0")
        return struct.pack("<" + self.format, value)


@dataclass(frozen=True)
class Array:
    """An array of up to three dimensions, the last one running fastest."""

    of: Atomic | Structure
    dimensions: tuple[int, ...]

    @property
    def element(self) -> Atomic | Structure:
        """The element in memory: an array of BOOL is one of DWORD."""
        return DWORD if self.of is BOOL else self.of

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Dimensions in memory."""
        return (-(-self.dimensions[0] // 32),) if self.of is BOOL else self.dimensions

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return prod(self.sizes) * self.element.size

    @property
    def alignment(self) -> int:
        """An array in a structure begins on a 32-bit boundary, or a 64-bit one if its elements require it."""
        return max(4, self.element.alignment)

    @property
    def symbol_type(self) -> int:
        """Its code in a tag list."""
        return self.element.symbol_type | len(self.dimensions) * DIMENSION

    def encode(self, value: Sequence[Any]) -> bytes:
        """The bytes of a value in memory; missing elements are zero."""
        if isinstance(value, bytes):
            return value.ljust(self.size, b"\0")
        if self.of is BOOL:
            bits = sum(bool(bit) << at for at, bit in enumerate(value))
            return bits.to_bytes(self.size, "little")
        flat = _flatten(value, len(self.dimensions))
        return b"".join(map(self.of.encode, flat)).ljust(self.size, b"\0")


@dataclass(frozen=True)
class Member:
    """A member of a structure; a BOOL is a `bit` of the byte at `offset`."""

    name: str
    data_type: DataType
    offset: int
    bit: int | None = None
    is_hidden: bool = False

    @property
    def info(self) -> bytes:
        """Its entry in the template: bit or array size, type, offset."""
        detail = self.bit or 0
        if isinstance(self.data_type, Array):
            detail = prod(self.data_type.sizes)
        return struct.pack("<HHI", detail, self.data_type.symbol_type, self.offset)


class Structure:
    """A structure: user-defined, predefined or a string.

    Attributes:
        template: instance of the template object.
        handle: its number in answers, computed from its members.
        definition: the answer to reading the template.
        text_limit: most characters of a string; None of other structures.
    """

    def __init__(
        self, name: str, members: Sequence[Member], *, template: int, handle: int | None = None, size: int = 0
    ) -> None:
        self.name = name
        self.alignment: int = max(4, *(member.data_type.alignment for member in members))
        self.members = {member.name.lower(): member for member in members}
        self.template = template
        end = max(member.offset + (1 if member.bit is not None else member.data_type.size) for member in members)
        self.size: int = size or -(-end // self.alignment) * self.alignment
        self.definition = self._definition(members)
        # Members in another order may make another structure with the same handle (1756-PM020, Tag type service
        # parameters for structure): here they always do.
        types = b"".join(sorted(member.info[:4] for member in members))
        self.handle = binascii.crc_hqx(types, self.size & 0xFFFF) if handle is None else handle
        data = self.members.get("data")
        is_string = [member.name for member in members] == ["LEN", "DATA"]
        self.text_limit = data.data_type.size if is_string and data is not None else None

    def __getitem__(self, dimensions: int | tuple[int, ...]) -> Array:
        return array(self, dimensions)

    @property
    def symbol_type(self) -> int:
        """Its code in a tag list."""
        return STRUCTURE | self.template

    @property
    def reply_type(self) -> bytes:
        """Its code in the answer to a read."""
        return _STRUCTURE_READ + self.handle.to_bytes(2, "little")

    @property
    def definition_words(self) -> int:
        """The size of the definition as attribute 4 has it: a reader asks for four times it less 23 bytes."""
        return -(-(len(self.definition) + 23) // 4)

    def encode(self, value: Mapping[str, Any] | str | bytes) -> bytes:
        """The bytes of a value in memory; missing members are zero."""
        if self.text_limit is not None and isinstance(value, str | bytes):
            text = (value.encode() if isinstance(value, str) else value)[: self.text_limit]
            return (struct.pack("<i", len(text)) + text).ljust(self.size, b"\0")
        if isinstance(value, bytes):
            return value.ljust(self.size, b"\0")
        assert not isinstance(value, str), f"{self.name} is no string"
        memory = bytearray(self.size)
        for name, part in value.items():
            member = self.members[name.lower()]
            if member.bit is None:
                data = member.data_type.encode(part)
                memory[member.offset : member.offset + len(data)] = data
            elif part:
                memory[member.offset] |= 1 << member.bit
        return bytes(memory)

    def _definition(self, members: Sequence[Member]) -> bytes:
        is_predefined = not 0x100 <= self.template <= 0xEFF
        title = self.name if is_predefined else f"{self.name};n" + "".join(chr(65 + len(m.name) % 26) for m in members)
        names = b"".join(name.encode() + b"\0" for name in (title, *(member.name for member in members)))
        return b"".join(member.info for member in members) + names


DataType = Atomic | Array | Structure


def array(of: Atomic | Structure, dimensions: int | tuple[int, ...]) -> Array:
    """An array type; BOOL has one dimension."""
    sizes = dimensions if isinstance(dimensions, tuple) else (dimensions,)
    if not 1 <= len(sizes) <= (1 if of is BOOL else 3) or min(sizes) < 1:
        raise ValueError(f"{of.name} cannot be an array of {list(sizes)}")
    return Array(of, sizes)


def lay_out(name: str, members: Mapping[str, DataType]) -> list[Member]:
    """Lay members out in memory: neighbouring BOOLs share hidden SINTs, others are aligned as their type requires."""
    laid: list[Member] = []
    at, bit = 0, 8
    for member, data_type in members.items():
        if data_type is BOOL:
            if bit == 8:
                laid.append(Member(f"ZZZZZZZZZZ{name[:10]}{len(laid)}", SINT, at, is_hidden=True))
                at, bit = at + 1, 0
            laid.append(Member(member, BOOL, at - 1, bit))
            bit += 1
            continue
        at = -(-at // data_type.alignment) * data_type.alignment
        laid.append(Member(member, data_type, at))
        at, bit = at + data_type.size, 8
    return laid


def _flatten(value: Sequence[Any], depth: int) -> Sequence[Any]:
    if depth == 1 or not value or not isinstance(value[0], list | tuple):
        return value
    return [part for row in value for part in _flatten(row, depth - 1)]


BOOL = Atomic("BOOL", 0xC1, "?", 1, 1)
SINT = Atomic("SINT", 0xC2, "b", 1, 1)
INT = Atomic("INT", 0xC3, "h", 2, 2)
DINT = Atomic("DINT", 0xC4, "i", 4, 4)
LINT = Atomic("LINT", 0xC5, "q", 8, 8)
USINT = Atomic("USINT", 0xC6, "B", 1, 1)
UINT = Atomic("UINT", 0xC7, "H", 2, 2)
UDINT = Atomic("UDINT", 0xC8, "I", 4, 4)
ULINT = Atomic("ULINT", 0xC9, "Q", 8, 8)
REAL = Atomic("REAL", 0xCA, "f", 4, 4)
LREAL = Atomic("LREAL", 0xCB, "d", 8, 8)
BYTE = Atomic("BYTE", 0xD1, "B", 1, 1)
WORD = Atomic("WORD", 0xD2, "H", 2, 2)
DWORD = Atomic("DWORD", 0xD3, "I", 4, 4)
LWORD = Atomic("LWORD", 0xD4, "Q", 8, 8)
SHORT_STRING = Atomic("SHORT_STRING", 0xDA, "s", 256, 1)
"""The text type of a Micro800."""


def string(name: str, length: int, *, template: int, handle: int | None = None) -> Structure:
    """A string type: its length, then its characters."""
    return Structure(name, [Member("LEN", DINT, 0), Member("DATA", SINT[length], 4)], template=template, handle=handle)


STRING = string("ASCIISTRING82", 82, template=0xFCE, handle=0xFCE)


def _predefined(name: str, template: int, numbers: Sequence[str], bits: Sequence[str]) -> Structure:
    members = [Member("Control", DINT, 0, is_hidden=True)]
    members += [Member(number, DINT, 4 + 4 * at) for at, number in enumerate(numbers)]
    members += [Member(bit, BOOL, 3, 7 - at) for at, bit in enumerate(bits)]
    return Structure(name, members, template=template, handle=template)


TIMER = _predefined("TIMER", 0xF83, ("PRE", "ACC"), ("EN", "TT", "DN"))
COUNTER = _predefined("COUNTER", 0xF82, ("PRE", "ACC"), ("CU", "CD", "DN", "OV", "UN"))
CONTROL = _predefined("CONTROL", 0xF81, ("LEN", "POS"), ("EN", "EU", "DN", "EM", "ER", "UL", "IN", "FD"))
