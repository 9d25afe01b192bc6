"""Addresses and types of tags of a controller as other programs write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any

from drivers.ethernetip.cip import BY_NAME
from edge.driver import SourceTag

Keys = dict[str, Any]

_TYPES = {
    "kepware": {
        "boolean": "BOOL", "char": "SINT", "byte": "SINT", "short": "INT", "word": "INT", "long": "DINT",
        "dword": "DINT", "llong": "LINT", "qword": "LINT", "float": "REAL", "double": "LREAL", "string": "STRING",
    },
    "ignition": {
        "boolean": "BOOL", "int1": "SINT", "int2": "INT", "int4": "DINT", "int8": "LINT", "float4": "REAL",
        "float8": "LREAL", "string": "STRING",
    },
}  # fmt: skip
"""Types that other programs give their own values: the controller's is as wide, and signed."""
_KEPWARE = re.compile(r"(?P<tag>[^{/]+?)(?P<sizes>(?:\{\d+\}){0,3})(?:/(?P<length>\d+))?")
_IGNITION = re.compile(r"(?:ns=\d+;s=)?\[[^\]]*\](?P<tag>.+)")
_ROWS_LIMIT = 2000


def import_tag(tag: SourceTag) -> Mapping[str, Keys]:
    """See `edge.driver.ImportsTags.import_tag`."""
    if tag.notation == "logix":
        return _elements(tag.address, _known(tag.type), tag.sizes, {})
    if tag.notation == "kepware":
        match = _KEPWARE.fullmatch(tag.address.strip())
        kind = _other(tag, tag.type.casefold().removesuffix(" array"))
        if match is None:
            raise ValueError(f"{tag.address!r} is no tag of a controller as Kepware writes it")
        more = {"length": int(match["length"])} if match["length"] and kind == "STRING" else {}
        address = match["tag"].removesuffix(".DATA") if kind == "STRING" else match["tag"]
        return _elements(address, kind, tuple(int(size) for size in re.findall(r"\d+", match["sizes"])), more)
    if tag.notation == "ignition":
        match = _IGNITION.fullmatch(tag.address)
        if match is None:
            raise ValueError(f"{tag.address!r} is no tag of a controller as Ignition writes it, such as [PLC]Level")
        return {"": {"address": match["tag"], "type": _other(tag, tag.type.casefold())}}
    raise ValueError("its file is not about tags of such a controller")


def _known(written: str) -> str:
    if written.upper() not in BY_NAME:
        raise ValueError(f"its type {written} is none that can be read as one value")
    return written.upper()


def _other(tag: SourceTag, written: str) -> str:
    kind = _TYPES[tag.notation].get(written)
    if kind is None:
        raise ValueError(f"its type {tag.type!r} does not say which one it has in the controller")
    return kind


def _elements(address: str, kind: str, sizes: tuple[int, ...], more: Keys) -> Mapping[str, Keys]:
    """An array is a slice; one of several dimensions a slice for each row."""
    if not sizes:
        return {"": {"address": address, "type": kind, **more}}
    rows = prod(sizes[:-1])
    if not 1 <= rows <= _ROWS_LIMIT or not sizes[-1]:
        raise ValueError(f"it is an array of {'x'.join(map(str, sizes))}; write the part that you need")
    return {
        "".join(f"[{index}]" for index in row): {
            "address": f"{address}[{''.join(f'{index},' for index in row)}0..{sizes[-1] - 1}]", "type": kind, **more,
        }
        for row in product(*map(range, sizes[:-1]))
    }  # fmt: skip
