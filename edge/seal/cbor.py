"""Deterministic CBOR (RFC 8949, 4.2.1) for payloads, and type checks of decoded values.

Maps have either small non-negative integers and COSE labels, or texts as keys; for those the order that cbor2 calls
canonical (RFC 7049) is the bytewise order of RFC 8949.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar, cast

import cbor2

from edge.seal.record import MAX_PAYLOAD_BYTES, Malformed, unlisted

MAX_DEPTH = 6
MAX_ITEMS = 100_000

UINT, NEGATIVE, BLOB, TEXT, ARRAY, MAP, TAG = range(7)

ITEM_BYTES = {64: 1, 69: 2, 70: 4, 71: 8, 72: 1, 77: 2, 78: 4, 79: 8, 85: 4, 86: 8}
"""The tags of little-endian typed arrays (RFC 8746, 2.1), and the size of their elements."""


def encode_head(major: int, value: int) -> bytes:
    """The shortest head of an item (RFC 8949, 3)."""
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 0x100:
        return bytes((major << 5 | 24, value))
    if value < 0x10000:
        return (major << 21 | 25 << 16 | value).to_bytes(3, "big")
    if value < 0x1_0000_0000:
        return (major << 37 | 26 << 32 | value).to_bytes(5, "big")
    return (major << 69 | 27 << 64 | value).to_bytes(9, "big")


def encode_int(value: int) -> bytes:
    """The encoding of an integer of any sign."""
    return encode_head(UINT, value) if value >= 0 else encode_head(NEGATIVE, ~value)


def encode_bytes(value: bytes) -> bytes:
    """The encoding of a byte string."""
    return encode_head(BLOB, len(value)) + value


def encode_text(value: str) -> bytes:
    """The encoding of a text string."""
    data = value.encode()
    return encode_head(TEXT, len(data)) + data


def encode(value: object) -> bytes:
    """The deterministic encoding of a value."""
    return cbor2.dumps(value, canonical=True)


def decode(payload: bytes, *, is_verified: bool = False) -> Any:
    """The value whose deterministic encoding is exactly these bytes.

    The caller checks the types of all values with the `as_` functions: that excludes other tags and simple values.

    Args:
        payload: what to decode.
        is_verified: it is of a record that was verified before, so that its encoding is known to be deterministic.

    Raises:
        Malformed: not CBOR, not deterministic, or above a limit.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise Malformed(f"payload of {len(payload)} bytes, {MAX_PAYLOAD_BYTES} are allowed")
    try:
        value = cbor2.loads(payload, max_depth=MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        again = payload if is_verified else cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Malformed(f"payload is not CBOR: {error}") from error
    if again != payload:
        raise Malformed("payload is not deterministic CBOR")
    # An item takes a byte or more, so that a short payload cannot hold too many.
    if len(payload) > MAX_ITEMS and _items(value) > MAX_ITEMS:
        raise Malformed(f"payload of more than {MAX_ITEMS} items")
    return value


def _items(value: object) -> int:
    if isinstance(value, list):
        return 1 + sum(map(_items, value))
    if isinstance(value, dict):
        return 1 + sum(_items(key) + _items(item) for key, item in value.items())
    return 1 + _items(value.value) if isinstance(value, cbor2.CBORTag) else 1


T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)

_INT = frozenset({int})
_FIELDS = [frozenset(range(1, count + 1)) for count in range(24)]
I64 = (-(2**63), 2**63 - 1)
U64 = (0, 2**64 - 1)


class Unknown:
    """What one payload holds that only a later version knows: words for people, the first few of them.

    The record format grows by members, elements and numbers that are new. A reader of today skips and counts them;
    they are checked against the limits of the encoding only, so that its verdict is that of a reader who knows them.
    """

    LIMIT = 8

    def __init__(self) -> None:
        self.words: dict[str, None] = {}

    def add(self, word: str) -> None:
        """Count something that is not known."""
        if len(self.words) < self.LIMIT:
            self.words[word] = None

    def skip(self, word: str, value: object) -> None:
        """Count content that is not known. Raises Malformed when it is beyond the limits of the encoding."""
        check_limits(value)
        self.add(word)


def check_limits(value: object) -> None:
    """Check that a decoded value is one that a payload may hold. Raises Malformed.

    Allowed are integers of 64 bits, floating-point numbers, truth values, null, texts, byte strings, typed arrays,
    lists, and maps whose keys are all unsigned integers or all texts.
    """
    kind = type(value)
    if kind is int:
        as_int(value, (I64[0], U64[1]))
    elif kind is list:
        for item in value:  # type: ignore[attr-defined]
            check_limits(item)
    elif kind is dict:
        keys = list(value)  # type: ignore[call-overload]
        if not (all(type(key) is str for key in keys) or all(type(key) is int and 0 <= key <= U64[1] for key in keys)):
            raise Malformed("a map whose keys are all unsigned integers or all texts was expected")
        for item in value.values():  # type: ignore[attr-defined]
            check_limits(item)
    elif isinstance(value, cbor2.CBORTag):
        if value.tag not in ITEM_BYTES or len(as_bytes(value.value)) % ITEM_BYTES[value.tag]:
            raise Malformed(f"tag {value.tag} is not allowed here")
    elif value is not None and kind not in (bool, float, str, bytes):
        raise Malformed(f"{value!r} is not allowed in a payload")


def check_depth(value: object, levels: int = MAX_DEPTH) -> None:
    """Check that maps and arrays have no more levels than allowed: `decode` lets an empty one below them pass."""
    if not isinstance(value, list | dict):
        return
    if not levels:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    for item in value if isinstance(value, list) else value.values():
        check_depth(item, levels - 1)


# Each check returns the value, or raises Malformed.


def as_fields(value: object, count: int, unknown: Unknown, *, more: int = 0) -> dict[int, Any]:
    """A map with the keys 1 to `count`, perhaps `more` further ones, and any that only a later version knows."""
    if type(value) is not dict:
        raise Malformed(f"a map of {count} fields was expected")
    if not set(map(type, value)) <= _INT or min(value, default=1) < 1 or max(value, default=1) > U64[1]:
        raise Malformed(f"fields with numbers from 1 were expected, got {list(value)}")
    if not value.keys() >= _FIELDS[count]:
        raise Malformed(f"a field of 1 to {count} is missing, got {list(value)}")
    if len(value) > count:
        for key, item in value.items():
            if key > count + more:
                unknown.skip(f"member {key}", item)
    return value


def as_elements(value: object, count: int, unknown: Unknown, *, more: int = 0) -> list[Any]:
    """An array of `count` elements, perhaps `more` further ones, and any that only a later version knows."""
    elements = as_array(value)
    known = count + more
    if count <= len(elements) <= known:
        return elements
    if len(elements) < count:
        raise Malformed(f"a list of {count} items was expected")
    for number, item in enumerate(elements[known:], known + 1):
        unknown.skip(f"element {number}", item)
    return elements[:known]


def as_array(value: object, count: int | None = None) -> list[Any]:
    """An array, of exactly `count` items where given."""
    if type(value) is not list or (count is not None and len(value) != count):
        raise Malformed("a list was expected" if count is None else f"a list of {count} items was expected")
    return value


def as_int(value: object, bounds: tuple[int, int] = U64) -> int:
    """An integer within bounds."""
    if type(value) is not int or not bounds[0] <= value <= bounds[1]:
        raise Malformed(f"an integer of {bounds[0]} to {bounds[1]} was expected, got {value!r}")
    return value


def as_float(value: object) -> float:
    """A floating-point number."""
    if type(value) is not float:
        raise Malformed(f"a floating-point number was expected, got {value!r}")
    return value


def as_text(value: object) -> str:
    """A text."""
    if type(value) is not str:
        raise Malformed(f"a text was expected, got {value!r}")
    return value


def as_bytes(value: object, size: int | None = None) -> bytes:
    """A byte string, of exactly `size` bytes where given."""
    if type(value) is not bytes or (size is not None and len(value) != size):
        raise Malformed("a byte string was expected" if size is None else f"{size} bytes were expected")
    return value


def optional(check: Callable[..., T], value: object, *args: Any) -> T | None:
    """None, or a value that `check` accepts."""
    return None if value is None else check(value, *args)


def as_enum(kind: type[E], value: object, unknown: Unknown) -> E:
    """A member of an enumeration: a number that stands for a word, perhaps one that only a later version knows."""
    number = as_int(value)
    known = kind._value2member_map_.get(number)
    if known is not None:
        return cast("E", known)
    unknown.add(f"{kind.__name__} {number}")
    return unlisted(kind, number)


Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]
"""The values that the data of an event may contain."""


def as_plain(value: object, depth: int = 2) -> Plain:
    """Numbers, texts, bytes, booleans, null, and arrays and maps with text keys of them.

    Args:
        value: what to check.
        depth: its nesting depth in the payload.
    """
    if value is None or type(value) in (bool, float, str, bytes):
        return value  # type: ignore[return-value]
    if type(value) is int:
        return as_int(value, (I64[0], U64[1]))
    if depth > MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    if type(value) is list:
        return [as_plain(item, depth + 1) for item in value]
    if type(value) is dict:
        return {as_text(key): as_plain(item, depth + 1) for key, item in value.items()}
    raise Malformed(f"{value!r} is not allowed in a payload")
