"""Records without signatures that mean anything, for what does not look at them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from edge.seal.cose import ES256, build, header_start, protected_and_payload
from edge.seal.record import Encoding, Record, RecordType, issuer_of

EPOCH = bytes.fromhex("00112233445566ff")


def unsigned_record(seq: int, payload: bytes = b"\xa0") -> Record:
    """A well-formed record that nobody signed."""
    kind = RecordType.DATA if seq else RecordType.EPOCH
    start = header_start(ES256, b"k" * 8, issuer_of("line-4"), kind, EPOCH)
    prev = hashlib.sha256(b"%d" % seq).digest() if seq else bytes(32)
    data = build(*protected_and_payload(start, seq, prev, Encoding.PLAIN, payload), b"s" * 64)
    return Record(kind, EPOCH, seq, data, hashlib.sha256(data).digest())


@pytest.fixture
def unsigned() -> Callable[..., Record]:
    return unsigned_record
