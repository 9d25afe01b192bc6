"""Addresses and types of Modbus as other programs write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from drivers.modbus.encodings import ENCODINGS
from drivers.modbus.settings import DATA_TYPES
from edge.driver import SourceTag

Keys = dict[str, Any]

_TYPES = {
    "kepware": {
        "boolean": "bool", "short": "int16", "word": "uint16", "long": "int32", "dword": "uint32", "llong": "int64",
        "qword": "uint64", "float": "float32", "double": "float64", "bcd": "bcd16", "lbcd": "bcd32", "string": "text",
    },
    "ignition": {
        "": "uint16", "F": "float32", "D": "float64", "I": "int32", "UI": "uint32", "I_64": "int64", "UI_64": "uint64",
        "US": "uint16", "S": "text", "BCD": "bcd16", "BCD_32": "bcd32",
    },
}  # fmt: skip
_KEPWARE = re.compile(
    r"(?P<table>[0134])(?P<number>\d{4,5})(?:\.(?P<part>\d+)(?P<order>[HL])?)?\s*(?P<sizes>(?:\[\d+\]){0,2})"
)
_IGNITION = re.compile(
    r"(?:ns=\d+;s=)?\[[^\]]*\](?:(?P<unit>\d+)\.)?(?P<table>HR|IR|C|DI)(?P<type>[A-Z]*(?:_\d\d)?)(?P<number>\d+)"
    r"(?:\.(?P<bit>\d+)|:(?P<length>\d+))?"
)
_IGNITION_TABLES = {"HR": "4", "IR": "3", "C": "0", "DI": "1"}
_ELEMENTS_LIMIT = 2000


def import_tag(tag: SourceTag) -> Mapping[str, Keys]:
    """See `edge.driver.ImportsTags.import_tag`."""
    if tag.notation == "kepware":
        return _kepware(tag.address, tag.type.casefold())
    if tag.notation == "ignition":
        return {"": _ignition(tag.address)}
    raise ValueError("its file is not about registers")


def _kepware(address: str, written: str) -> Mapping[str, Keys]:
    match = _KEPWARE.fullmatch(address.strip())
    if match is None:
        raise ValueError(f"{address!r} is no address of Modbus as Kepware writes it, such as 400101 or 400101.3")
    is_register = match["table"] in "34"
    kind = _TYPES["kepware"].get(written.removesuffix(" array"))
    if written in ("", "default"):
        kind = "uint16" if is_register else "bool"
    if kind is None:
        raise ValueError(f"its type {written!r} has none here")
    first, part = f"{match['table']}x{int(match['number']):05}", match["part"]
    if kind == "text":
        if not part:
            raise ValueError(f"{address!r} is a text and says no length")
        order = {"byte_order": "little"} if match["order"] == "L" else {}
        return {"": {"address": first, "type": kind, "length": int(part), **order}}
    if sizes := [int(size) for size in re.findall(r"\d+", match["sizes"])]:
        return _elements(match["table"], int(match["number"]), kind, sizes)
    if is_register and kind == "bool":
        return {"": {"address": f"{first}.{int(part or 0)}", "type": kind}}
    if part:
        raise ValueError(f"{address!r} is one bit, and its type is {written}")
    return {"": {"address": first, "type": kind}}


def _elements(table: str, first: int, kind: str, sizes: list[int]) -> Mapping[str, Keys]:
    """A tag for each element of an array."""
    rows, columns = (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
    if not 1 <= rows * columns <= _ELEMENTS_LIMIT:
        raise ValueError(f"it has {rows * columns} elements; write those that you need")
    if kind == "bool" and table in "34":
        raise ValueError("an array of bits in registers has to be written bit by bit")
    bytes_each = DATA_TYPES[kind].numpy.itemsize
    step = ENCODINGS[kind].registers if kind in ENCODINGS else 1 if kind == "bool" else max(1, bytes_each // 2)
    return {
        f"[{row}][{column}]" if len(sizes) > 1 else f"[{column}]": {
            "address": f"{table}x{first + (row * columns + column) * step:05}", "type": kind,
        }
        for row in range(rows) for column in range(columns)
    }  # fmt: skip


def _ignition(address: str) -> Keys:
    match = _IGNITION.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is no register of Ignition's Modbus, such as [PLC]HR101 or [PLC]HRF101")
    kind = _TYPES["ignition"].get(match["type"])
    if kind is None:
        raise ValueError(f"{address!r}: the type {match['type']!r} has none here")
    first = f"{_IGNITION_TABLES[match['table']]}x{int(match['number']):05}"
    if match["table"] in ("C", "DI"):
        return {"address": first, "type": "bool"}
    if match["bit"]:
        return {"address": f"{first}.{int(match['bit'])}", "type": "bool"}
    return {"address": first, "type": kind, **({"length": int(match["length"])} if match["length"] else {})}
