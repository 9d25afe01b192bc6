"""The certificates of an EPOCH, found before its signature can be verified; and when certificates expire."""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def expiries(certificates: Iterable[bytes]) -> list[tuple[str, int]]:
    """(subject, UTC of the end in ns) of certificates in DER; ValueError for anything else."""
    return [_expiry(certificate) for certificate in certificates]


def expiries_of_pem(pem: bytes) -> list[tuple[str, int]]:
    """As `expiries`, of all certificates of a PEM file; keys in it are passed over."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return expiries(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(pem))


def _expiry(certificate: bytes) -> tuple[str, int]:
    from cryptography import x509

    loaded = x509.load_der_x509_certificate(certificate)
    return loaded.subject.rfc4514_string(), int(loaded.not_valid_after_utc.timestamp()) * 10**9
