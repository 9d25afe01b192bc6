"""The certificates of an EPOCH, found before its signature can be verified."""

from __future__ import annotations

import re

_P256_KEY = rb"\xa4\x01\x02\x20\x01\x21\x58\x20.{32}\x22\x58\x20.{32}"
_ED25519_KEY = rb"\xa3\x01\x01\x20\x06\x21\x58\x20.{32}"
# The map of 11 members begins with 1: COSE_Key, 2: list of at most 8 certificates.
_START = re.compile(rb"\xab\x01(?:" + _P256_KEY + rb"|" + _ED25519_KEY + rb")\x02([\x80-\x88])", re.DOTALL)
_SIZES = {0x58: 1, 0x59: 2}


def of_epoch(payload: bytes) -> list[bytes]:
    """The certificates in the payload of an EPOCH, leaf first; none where it is not of that shape."""
    start = _START.match(payload)
    if start is None:
        return []
    found = []
    at = start.end()
    for _ in range(start[1][0] - 0x80):
        size_bytes = _SIZES.get(payload[at] if at < len(payload) else 0)
        if size_bytes is None:
            return []
        begin = at + 1 + size_bytes
        at = begin + int.from_bytes(payload[at + 1 : begin], "big")
        found.append(payload[begin:at])
    return found
