"""What the library would make of a claim: it pads matrices, and repeats what takes no bytes as often as it is told.

Importing this module imports asyncua: only what connects or browses does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

from asyncua import ua
from asyncua.ua import ua_binary

# ruff: noqa: SLF001

ELEMENTS = 10_000
"""Most elements of an array that the library makes objects of, one by one; numbers come all at once."""

_DIMENSIONS = 16
_array_of = ua_binary._create_uatype_array_deserializer
_shaped = ua_binary._reshape


@cache
def _bounded_array_of(kind: Any) -> Callable[[Any], Any]:
    taken: Callable[[Any], Any] = _array_of(kind)
    if hasattr(ua_binary.Primitives1, kind.name):
        return taken
    most = 0 if kind == ua.VariantType.Null else ELEMENTS

    def bounded(data: Any) -> Any:
        (count,) = struct.unpack("<i", data.copy(4).read(4))
        if count > most:
            raise ua.UaError(f"an array of {count} {kind.name}")
        return taken(data)

    return bounded


def _bounded_shape(flat: list[Any], sizes: Sequence[int] | None) -> list[Any]:
    if not sizes or len(sizes) > _DIMENSIONS or min(sizes) < 0 or prod(sizes) != len(flat):
        raise ua.UaError("a matrix whose dimensions are not those of its elements")
    return list(_shaped(flat, sizes)) if flat else []


def bound() -> None:
    """Have no array or matrix be larger than the bytes that it came in."""
    ua_binary._create_uatype_array_deserializer = _bounded_array_of
    ua_binary._reshape = _bounded_shape
