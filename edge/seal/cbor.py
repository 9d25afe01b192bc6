"""Deterministic CBOR (RFC 8949, 4.2.1) for payloads.

Maps have either small non-negative integers and COSE labels, or texts as keys; for those the order that cbor2 calls
canonical (RFC 7049) is the bytewise order of RFC 8949.
"""

from __future__ import annotations

from typing import Any

import cbor2

from edge.seal.record import MAX_PAYLOAD_BYTES, Malformed

MAX_DEPTH = 6
MAX_ITEMS = 100_000

UINT, NEGATIVE, BLOB, TEXT, ARRAY, MAP, TAG = range(7)


def head(major: int, value: int) -> bytes:
    """The shortest head of an item."""
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 0x100:
        return bytes((major << 5 | 24, value))
    if value < 0x10000:
        return (major << 21 | 25 << 16 | value).to_bytes(3, "big")
    if value < 0x1_0000_0000:
        return (major << 37 | 26 << 32 | value).to_bytes(5, "big")
    return (major << 69 | 27 << 64 | value).to_bytes(9, "big")


def integer(value: int) -> bytes:
    """An integer of any sign."""
    return head(UINT, value) if value >= 0 else head(NEGATIVE, ~value)


def blob(value: bytes) -> bytes:
    """A byte string."""
    return head(BLOB, len(value)) + value


def text(value: str) -> bytes:
    """A text string."""
    data = value.encode()
    return head(TEXT, len(data)) + data


def encode(value: object) -> bytes:
    """The one encoding of a value."""
    return cbor2.dumps(value, canonical=True)


def decode(payload: bytes) -> Any:
    """A value whose encoding is exactly these bytes.

    The caller checks the types of what it takes out: only then are foreign tags and simple values excluded.

    Raises:
        Malformed: not CBOR, not its one encoding, or beyond the bounds.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise Malformed(f"payload of {len(payload)} bytes, {MAX_PAYLOAD_BYTES} are allowed")
    try:
        value = cbor2.loads(payload, max_depth=MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        again = cbor2.dumps(value, canonical=True)
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
