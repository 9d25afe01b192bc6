"""Rows for COPY in binary form (PostgreSQL, COPY, "Binary Format"): arrays go in as columns of numpy, whole."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edge.model import Vector

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
NUL_SHOWN = "\N{SYMBOL FOR NULL}"
"""What stands for a NUL in a text, which PostgreSQL does not take."""

_POSTGRES_EPOCH_US = 946_684_800 * 10**6  # 2000-01-01.
NULL = struct.pack(">i", -1)
_ARRAY = struct.Struct(">iiIii")  # Dimensions, has nulls, type, length, lower bound.
_ELEMENTS = {"int4": (23, ">i4"), "int8": (20, ">i8"), "float4": (700, ">f4"), "float8": (701, ">f8")}
_TEXT_OID = 25


def text(value: str) -> str:
    """A text as PostgreSQL takes it."""
    return value.replace("\0", NUL_SHOWN) if "\0" in value else value


def _field(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


@lru_cache(4096)  # Names and digests come with every row.
def encode_text(value: str) -> bytes:
    """A field of type text."""
    return _field(text(value).encode())


@lru_cache(4096)
def encode_bytes(value: bytes) -> bytes:
    """A field of type bytea."""
    return _field(value)


def _number(form: str) -> Callable[[int], bytes]:
    packer = struct.Struct(f">i{form}")
    size = packer.size - 4
    return lambda value: packer.pack(size, value)


encode_int2, encode_int4, encode_int8 = map(_number, "hiq")


def encode_time(utc_ns: int) -> bytes:
    """A field of type timestamptz, which has microseconds: the one that the instant is in."""
    return encode_int8(utc_ns // 1000 - _POSTGRES_EPOCH_US)


def encode_array(kind: str, values: Vector) -> bytes:
    """A field that is an array of numbers; null where it would be empty."""
    if not len(values):
        return NULL
    oid, dtype = _ELEMENTS[kind]
    elements = np.empty(len(values), np.dtype([("size", ">i4"), ("value", dtype)]))
    elements["size"] = elements.dtype["value"].itemsize
    elements["value"] = values
    return _field(_ARRAY.pack(1, 0, oid, len(values), 1) + elements.tobytes())


NO_NUMBERS = _field(struct.pack(">iii", 0, 0, _ELEMENTS["int4"][0]))
"""A field that is an empty array of int4, where null would mean something else."""


def encode_texts(values: Sequence[str] | Vector) -> bytes:
    """A field that is an array of texts; null where it would be empty."""
    if not len(values):
        return NULL
    return _field(
        _ARRAY.pack(1, 0, _TEXT_OID, len(values), 1) + b"".join(_field(text(each).encode()) for each in values)
    )


def optional(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """A field that may be null."""
    return NULL if value is None else encode(value)


def row(fields: Sequence[bytes]) -> bytes:
    """One row of encoded fields."""
    return struct.pack(">h", len(fields)) + b"".join(fields)


def stream(rows: Iterable[bytes]) -> bytes:
    """All rows, as COPY takes them."""
    return b"".join([HEADER, *rows, TRAILER])
