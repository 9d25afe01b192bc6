"""Nodes and types of OPC UA as other programs write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from drivers.opcua.address import parse_address
from drivers.opcua.settings import TAG_TYPES
from edge.driver import SourceTag

SIMATIC = "http://www.siemens.com/simatic-s7-opcua"
"""The namespace of the tags in the server of an S7-1200 or S7-1500."""

_TYPES = {
    "kepware": {
        "boolean": "bool", "char": "int8", "byte": "uint8", "short": "int16", "word": "uint16", "long": "int32",
        "dword": "uint32", "llong": "int64", "qword": "uint64", "float": "float32", "double": "float64",
        "string": "text", "date": "datetime",
    },
    "ignition": {
        "boolean": "bool", "int1": "int8", "int2": "int16", "int4": "int32", "int8": "int64", "float4": "float32",
        "float8": "float64", "string": "text", "text": "text", "datetime": "datetime",
    },
    "tia": {
        "bool": "bool", "byte": "uint8", "word": "uint16", "dword": "uint32", "lword": "uint64", "sint": "int8",
        "int": "int16", "dint": "int32", "lint": "int64", "usint": "uint8", "uint": "uint16", "udint": "uint32",
        "ulint": "uint64", "real": "float32", "lreal": "float64", "char": "uint8", "wchar": "uint16",
        "string": "text", "wstring": "text", "time": "int32", "ltime": "int64", "s5time": "uint16", "date": "uint16",
        "time_of_day": "uint32", "tod": "uint32", "ltime_of_day": "uint64", "ltod": "uint64", "ldt": "datetime",
        "date_and_ltime": "datetime", "timer": "uint16", "counter": "uint16",
    },
}  # fmt: skip
"""What other programs call types; of TIA, what its server makes of them."""


def import_tag(tag: SourceTag) -> Mapping[str, Mapping[str, Any]]:
    """See `edge.driver.ImportsTags.import_tag`."""
    if tag.notation == "node":
        kind = TAG_TYPES.get(tag.type)
        if kind is None:
            raise ValueError(f"its type {tag.type} is none that can be read as one value")
        return {"": {"address": tag.address, "type": kind, **_index(tag.sizes)}}
    if tag.notation not in _TYPES:
        raise ValueError("its file is not about nodes of a server")
    kind = _TYPES[tag.notation].get(re.sub(r"\[.*\]| array$", "", tag.type.casefold()).strip())
    if kind is None:
        raise ValueError(f"its type {tag.type!r} has none here")
    address = f'nsu={SIMATIC};s="{tag.address}"' if tag.notation == "tia" else tag.address
    parse_address(address)  # Its sentence about the index of a namespace says what to write.
    return {"": {"address": address, "type": kind, **_index(tag.sizes)}}


def _index(sizes: tuple[int, ...]) -> dict[str, Any]:
    ranges = [f"0..{size - 1}" for size in sizes]
    return {"index": ranges[0] if len(ranges) == 1 else ranges} if ranges else {}
