"""Checks for what came out of a payload: exact types, bounds, and no key too few or too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from edge.seal.cbor import MAX_DEPTH
from edge.seal.record import Malformed

T = TypeVar("T")

I64 = (-(2**63), 2**63 - 1)
U64 = (0, 2**64 - 1)


def numbered(value: object, count: int, *, more: int = 0) -> dict[int, Any]:
    """A map with the keys 1 to `count`, and perhaps up to `more` further ones."""
    if type(value) is not dict or not count <= len(value) <= count + more:
        raise Malformed(f"a map of {count} fields was expected")
    if any(type(key) is not int or not 1 <= key <= count + more for key in value):
        raise Malformed(f"the fields 1 to {count + more} were expected, got {list(value)}")
    if any(key not in value for key in range(1, count + 1)):
        raise Malformed(f"a field of 1 to {count} is missing, got {list(value)}")
    return value


def items(value: object, count: int | None = None) -> list[Any]:
    """A list, of exactly `count` items where given."""
    if type(value) is not list or (count is not None and len(value) != count):
        raise Malformed("a list was expected" if count is None else f"a list of {count} items was expected")
    return value


def whole(value: object, bounds: tuple[int, int] = U64) -> int:
    """An integer within bounds."""
    if type(value) is not int or not bounds[0] <= value <= bounds[1]:
        raise Malformed(f"an integer of {bounds[0]} to {bounds[1]} was expected, got {value!r}")
    return value


def real(value: object) -> float:
    """A floating-point number."""
    if type(value) is not float:
        raise Malformed(f"a floating-point number was expected, got {value!r}")
    return value


def text(value: object) -> str:
    """A text."""
    if type(value) is not str:
        raise Malformed(f"a text was expected, got {value!r}")
    return value


def blob(value: object, size: int | None = None) -> bytes:
    """A byte string, of exactly `size` bytes where given."""
    if type(value) is not bytes or (size is not None and len(value) != size):
        raise Malformed("a byte string was expected" if size is None else f"{size} bytes were expected")
    return value


def optional(check: Callable[..., T], value: object, *args: Any) -> T | None:
    """Null, or what `check` accepts."""
    return None if value is None else check(value, *args)


def choice(kind: Callable[[int], T], value: object) -> T:
    """A member of an enumeration."""
    try:
        return kind(whole(value))
    except ValueError as error:
        raise Malformed(str(error)) from error


Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]
"""What the data of an event may hold."""


def plain(value: object, depth: int = 2) -> Plain:
    """Numbers, texts, bytes, truth values, null, and lists and text-keyed maps of them.

    Args:
        value: what to check.
        depth: how deep in the payload it stands.
    """
    if value is None or type(value) in (bool, float, str, bytes):
        return value  # type: ignore[return-value]
    if type(value) is int:
        return whole(value, (I64[0], U64[1]))
    if depth > MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    if type(value) is list:
        return [plain(item, depth + 1) for item in value]
    if type(value) is dict:
        return {text(key): plain(item, depth + 1) for key, item in value.items()}
    raise Malformed(f"{value!r} is not allowed in a payload")
