"""Records as COSE_Sign1 (RFC 9052, 4.2) of one fixed shape.

It is parsed by hand, so that nothing but these lines touches bytes whose signature has not been verified.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from edge.seal import cbor
from edge.seal.record import MAX_RECORD_BYTES, Encoding, Garbage, RecordType

CONTENT_TYPE = "application/vnd.tidegate.record+cbor"
NO_PREVIOUS = bytes(32)
MAX_SEQ = 2**64 - 1
MAX_ISSUER_BYTES = 200

ES256, ESP256, ED25519 = -7, -9, -19
_ALGORITHMS = {0x20 | ~alg: alg for alg in (ES256, ESP256, ED25519)}

# Labels 1 alg, 3 content type, 4 kid, 15 CWT claims {1 issuer, 2 subject}, -70001 chain, -70002 encoding.
_AFTER_ALG = b"\x03" + cbor.encode_text(CONTENT_TYPE) + b"\x04\x48"
_CLAIMS = b"\x0f\xa2\x01"
_SUBJECT = b"\x02"
_CHAIN = cbor.encode_int(-70001) + b"\x84"
_ENC = cbor.encode_int(-70002)
_TYPES = {(int(kind), kind.name.encode()): kind for kind in RecordType}
_LATER_NAME = re.compile(rb"[A-Z][A-Z0-9_]{0,39}")
_LATER_TYPES = range(RecordType.STOP + 1, 2**32)
_PACKED = (RecordType.DATA, RecordType.CATALOG)
_SIGNATURE1 = b"\x84\x6aSignature1"
_TAGGED = b"\xd2\x84"


class Envelope(NamedTuple):
    """The parts of a record; its signature and payload are not checked.

    `payload` is as transmitted, packed as `enc` says; `signed` are the bytes that `signature` covers.
    """

    type: RecordType
    epoch: bytes
    seq: int
    prev: bytes
    kid: bytes
    alg: int
    issuer: str
    enc: Encoding
    payload: bytes
    signature: bytes
    signed: bytes


def _head(data: bytes, at: int, major: int, what: str) -> tuple[int, int]:
    """The value of a head in shortest form, and the offset after it."""
    if at >= len(data) or data[at] >> 5 != major:
        raise Garbage(at, f"{what} expected")
    short = data[at] & 31
    if short < 24:
        return short, at + 1
    if short > 27:
        raise Garbage(at, f"{what} has no definite length")
    size = 1 << (short - 24)
    end = at + 1 + size
    value = int.from_bytes(data[at + 1 : end], "big")
    if end > len(data) or (value < 24 if size == 1 else value >> (4 * size) == 0):
        raise Garbage(at, f"{what} is cut or not in shortest form")
    return value, end


def _string(data: bytes, at: int, major: int, what: str) -> tuple[bytes, int]:
    size, start = _head(data, at, major, what)
    end = start + size
    if end > len(data):
        raise Garbage(at, f"{what} is cut")
    return data[start:end], end


def _expect(data: bytes, at: int, constant: bytes, what: str) -> int:
    if not data.startswith(constant, at):
        raise Garbage(at, f"{what} expected")
    return at + len(constant)


def parse(data: bytes) -> Envelope:
    """The parts of a record.

    Raises:
        Garbage: these bytes are not exactly one record.
    """
    at = _expect(data, 0, _TAGGED, "COSE_Sign1 with tag 18")
    protected, protected_end = _string(data, at, cbor.BLOB, "protected header")
    payload_at = _expect(data, protected_end, b"\xa0", "empty unprotected header")
    payload, payload_end = _string(data, payload_at, cbor.BLOB, "payload")
    signature_at = _expect(data, payload_end, b"\x58\x40", "signature of 64 bytes")
    end = signature_at + 64
    if end > len(data):
        raise Garbage(signature_at, "signature is cut")
    if end > MAX_RECORD_BYTES:
        raise Garbage(0, f"record of more than {MAX_RECORD_BYTES} bytes")
    signed = b"".join((_SIGNATURE1, data[at:protected_end], b"\x40", data[payload_at:payload_end]))
    try:
        frame = _parse_protected(protected, payload, data[signature_at:end], signed)
    except Garbage as error:
        raise Garbage(protected_end - len(protected) + error.offset, error.why) from None
    if end != len(data):
        raise Garbage(end, f"{len(data) - end} bytes follow the record")
    return frame


def _parse_protected(data: bytes, payload: bytes, signature: bytes, signed: bytes) -> Envelope:
    is_packed = data.startswith(b"\xa6\x01")
    at = _expect(data, 0, b"\xa6\x01" if is_packed else b"\xa5\x01", "header map with alg")
    alg = _ALGORITHMS.get(data[at]) if len(data) > at else None
    if alg is None:
        _refuse(at, "algorithm ES256, ESP256 or Ed25519 expected")
    at = _expect(data, at + 1, _AFTER_ALG, "content type and key id")
    kid = data[at : at + 8]
    at = _expect(data, at + 8, _CLAIMS, "issuer claim")
    issuer, subject_at = _string(data, at, cbor.TEXT, "issuer")
    if not 0 < len(issuer) <= MAX_ISSUER_BYTES:
        _refuse(at, f"issuer of 1 to {MAX_ISSUER_BYTES} bytes expected")
    at = _expect(data, subject_at, _SUBJECT, "name of a record type")
    subject, chain_at = _string(data, at, cbor.TEXT, "name of a record type")
    number_at = _expect(data, chain_at, _CHAIN, "place in the chain")
    number, at = _head(data, number_at, cbor.UINT, "number of the record type")
    kind = _TYPES.get((number, subject))
    if kind is None:
        kind = _later_type(number, subject, number_at)
    at = _expect(data, at, b"\x48", "epoch of 8 bytes")
    epoch = data[at : at + 8]
    seq, at = _head(data, at + 8, cbor.UINT, "seq")
    prev_at = _expect(data, at, b"\x58\x20", "hash of the record before")
    prev = data[prev_at : prev_at + 32]
    at = prev_at + 32
    enc = Encoding.PLAIN
    if is_packed:
        at = _expect(data, at, _ENC, "encoding")
        enc = _encoding(data, at, kind)
        at += 1
    if at != len(data):
        _refuse(min(at, len(data)), "header of another length expected")
    if (seq == 0) != (kind is RecordType.EPOCH) or (seq == 0) != (prev == NO_PREVIOUS):
        _refuse(prev_at, "EPOCH, seq 0 and an empty hash belong together")
    try:
        name = issuer.decode()
    except UnicodeDecodeError:
        _refuse(subject_at - len(issuer), "issuer is not UTF-8")
    return Envelope(kind, epoch, seq, prev, kid, alg, name, enc, payload, signature, signed)


def _later_type(number: int, name: bytes, at: int) -> RecordType:
    if number not in _LATER_TYPES or not _LATER_NAME.fullmatch(name):
        _refuse(at, "number and name of one record type expected")
    try:
        return RecordType.of(number, name.decode())
    except ValueError as error:
        _refuse(at, str(error))


def _encoding(data: bytes, at: int, kind: RecordType) -> Encoding:
    if data[at : at + 1] not in (b"\x01", b"\x02") or kind not in _PACKED:
        _refuse(at, "zlib or zstd of DATA or CATALOG expected")
    return Encoding(data[at])


def _refuse(at: int, why: str) -> NoReturn:
    raise Garbage(at, why)


def header_start(alg: int, kid: bytes, issuer: str, kind: RecordType, epoch: bytes) -> bytes:
    """The part of a protected header that stays the same from record to record, without its first byte."""
    return b"".join(
        (b"\x01", cbor.encode_int(alg), _AFTER_ALG, kid, _CLAIMS, cbor.encode_text(issuer), _SUBJECT,
         cbor.encode_text(kind.name), _CHAIN, cbor.encode_int(kind), b"\x48", epoch)
    )  # fmt: skip


def protected_and_payload(start: bytes, seq: int, prev: bytes, enc: Encoding, payload: bytes) -> tuple[bytes, bytes]:
    """Protected header and payload as encoded byte strings."""
    chain = cbor.encode_int(seq) + b"\x58\x20" + prev
    if enc is Encoding.PLAIN:
        protected = b"\xa5" + start + chain
    else:
        protected = b"".join((b"\xa6", start, chain, _ENC, bytes((enc,))))
    return cbor.encode_bytes(protected), cbor.encode_bytes(payload)


def signed_bytes(protected: bytes, payload: bytes) -> bytes:
    """What is signed: the Sig_structure of RFC 9052, 4.4, of encoded byte strings."""
    return b"".join((_SIGNATURE1, protected, b"\x40", payload))


def build(protected: bytes, payload: bytes, signature: bytes) -> bytes:
    """A record of encoded byte strings and a raw signature."""
    return b"".join((_TAGGED, protected, b"\xa0", payload, b"\x58\x40", signature))
