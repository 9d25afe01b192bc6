"""The types a tag can have on a controller, and their codes (CIP Vol 1, appendix C-6.1)."""

from __future__ import annotations

from dataclasses import dataclass

from edge.model import DataType

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
