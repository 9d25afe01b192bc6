"""Frames and protected headers that are not those of a record, and signatures that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.vectors.content import (
    ED_SESSION,
    FIRST,
    IDENTITY,
    NEXT_SESSION,
    OTHER_GATEWAY,
    SESSION,
    STRANGER,
    bad,
    bads,
    begin,
    case,
    checkpoint,
    event,
)
from tests.support.vectors.wire import BLOB, CHECKPOINT, EVENT, ORDER, Case, Chain, cbor, head, high_s

PLACE = cbor(-70001) + b"\x84"


def cases() -> Iterator[Case]:
    """Bad frames."""
    line = begin()
    yield from _frames(line.make(EVENT, event()))
    yield from _signatures(line, line.make(EVENT, event()))


def _frames(right: bytes) -> Iterator[Case]:
    body = right[2:]
    signature_at = len(right) - 66
    protected = head(BLOB, int(body[1])) + body[2 : 2 + body[1]]
    after = body[len(protected) + 1 :]
    assert body.startswith(protected + b"\xa0\x58")
    start = b"\xd2\x84" + protected
    rows: Sequence[tuple[str, str, *tuple[bytes, ...]]] = (
        ("empty", "No bytes at all.", b""),
        ("tag", "No tag, only the tag, a COSE_Mac0, a COSE_Sign, tag 18 in two bytes, a tag more before it.",
         right[1:], right[:1], b"\xd1" + right[1:], b"\xd8\x62" + right[1:], b"\xd8\x12" + right[1:],
         b"\xd9\xd9\xf7" + right),
        ("array", "An array of three or five items, with a long head, of indefinite length.",
         b"\xd2\x83" + body[:-66], b"\xd2\x85" + body + b"\xf6", b"\xd2\x98\x04" + body, b"\xd2\x9f" + body + b"\xff"),
        ("protected", "A protected header with a long head, in chunks, as a map, as a text, empty.",
         b"\xd2\x84\x59\x00" + body[1:], b"\xd2\x84\x5f" + protected + b"\xff\xa0" + after,
         b"\xd2\x84" + protected[2:] + b"\xa0" + after, b"\xd2\x84\x78" + body[1:], b"\xd2\x84\x40\xa0" + after),
        ("unprotected", "An unprotected header with a key id, of indefinite length, null, as a byte string.",
         start + b"\xa1\x04\x41\x00" + after, start + b"\xbf\xff" + after, start + b"\xf6" + after,
         start + b"\x40" + after),
        ("payload", "A payload that is elsewhere, a text string, or has a long head.",
         start + b"\xa0\xf6" + right[signature_at:], start + b"\xa0\x78" + after[1:],
         start + b"\xa0\x59\x00" + after[1:]),
        ("signature-size", "A signature that is empty, of 63 or 65 bytes, in DER, with a long head, or missing.",
         *(right[:signature_at] + each for each in (
             b"\x40", b"\x58\x3f" + right[-64:-1], b"\x58\x41" + right[-64:] + b"\x00",
             b"\x58\x46\x30\x44" + _der(right[-64:]), b"\x59\x00\x40" + right[-64:], b"\x78\x40" + right[-64:], b""))),
        ("cut", "The last byte or the second half is missing.", right[:-1], right[: len(right) // 2]),
        ("trailing", "A byte, a break, or the same record once more follows.",
         right + b"\x00", right + b"\xff", right * 2),
    )  # fmt: skip
    for name, what, *records in rows:
        yield bads(f"frame/{name}", what, records)


def _der(signature: bytes) -> bytes:
    return b"\x02\x20" + signature[:32] + b"\x02\x20" + signature[32:]


def _signatures(line: Chain, right: bytes) -> Iterator[Case]:
    def flipped(what: bytes, bit: int = 1) -> bytes:
        at = right.index(what) + len(what) - 1
        return right[:at] + bytes((right[at] ^ bit,)) + right[at + 1 :]

    def signed(r: int, s: int) -> bytes:
        return right[:-64] + r.to_bytes(32, "big") + s.to_bytes(32, "big")

    r, s = int.from_bytes(right[-64:-32], "big"), int.from_bytes(right[-32:], "big")
    rows: Sequence[tuple[str, str, str, *tuple[bytes, ...]]] = (
        ("high-s", "The other s of a right signature.", "X", high_s(right)),
        ("zero", "r, s, or both are 0.", "X", signed(0, s), signed(r, 0), signed(0, 0)),
        ("order", "r or s is the order of the group, and r is 2²⁵⁶ - 1.", "X",
         signed(ORDER, s), signed(r, ORDER), signed(2**256 - 1, s)),
        ("swapped", "r and s are swapped.", "X", signed(s, r)),
        ("flip", "A bit of r, s, the payload and the hash of the record before is another one.", "X",
         signed(r ^ 1, s), signed(r, s ^ 1), flipped(b"plc-1"), flipped(line.prev)),
        ("flip-alg", "ES256 has become ESP256 after it was signed.", "X",
         right.replace(b"\x01\x26\x03", b"\x01\x28\x03")),
        ("flip-shape", "A bit of the content type, the name of the type, and the tag is another one.", "G",
         flipped(b"record+cbor"), flipped(b"EVENT"), bytes((right[0] ^ 1,)) + right[1:]),
        ("other-type", "An EVENT has become a DATA after it was signed.", "X",
         right[:2] + _replaced(right[2:], b"\x65EVENT" + PLACE + b"\x05", b"\x64DATA" + PLACE + b"\x00")),
        ("flip-kid", "A bit of the key id is another one: it names a key that is not allowed.", "U",
         flipped(SESSION.kid)),
        ("another-payload", "The payload of another record under this header.", "X",
         right.replace(cbor(event()), cbor(event(1)))),
        ("another-key", "Signed by another key under the id of the right one.", "X",
         line.make(EVENT, event(), sign=STRANGER.sign)),
        ("unknown-key", "Signed by a key that no record has brought.", "U",
         line.make(EVENT, event(), key=STRANGER), line.make(EVENT, event(), key=NEXT_SESSION)),
        ("identity-signs-event", "The identity signs an EVENT.", "U", line.make(EVENT, event(), key=IDENTITY)),
        ("session-signs-checkpoint", "The session key signs a CHECKPOINT.", "U",
         line.make(CHECKPOINT, checkpoint(line), key=SESSION)),
        ("ed25519-under-p256", "Ed25519 is named, with a signature of the P-256 key, and with an Ed25519 one.", "X",
         line.make(EVENT, event(), alg=-19), line.make(EVENT, event(), alg=-19, sign=ED_SESSION.sign)),
    )  # fmt: skip
    for name, what, verdict, *records in rows:
        yield bads(f"signature/{name}", what, records, verdict)
    yield bad("signature/another-gateway", "Signed by the identity of another gateway.",
              line.make(EVENT, event(), key=OTHER_GATEWAY), "U")  # fmt: skip
    chain = begin(session=ED_SESSION)
    for name, what, records in (
        ("p256-under-ed25519", "ES256 is named, with a signature of the right Ed25519 key, and with an ES256 one.",
         [chain.make(EVENT, event(), alg=-7), chain.make(EVENT, event(), alg=-7, sign=SESSION.sign)]),
        ("ed25519", "A bit of an Ed25519 signature is another one, and its S is not below the order of the group.",
         [_with_last_byte(chain.make(EVENT, event()), flip) for flip in (1, 0x10)]),
    ):  # fmt: skip
        yield case(f"signature/{name}", what, [*chain.records, *records], "AXX")
    yield case("signature/epoch-flip", "A bit of the EPOCH's signature is another one; the next record waits for the "
               "key of the chain.", [_with_last_byte(line.records[0], 1), line.make(EVENT, event())],
               "X?", tail={})  # fmt: skip
    yield case("signature/flip-epoch-id", "A bit of the chain's id is another one: it is a record of a chain of which "
               "nothing is known.", [*line.records, flipped(b"\x84\x05\x48" + FIRST)], "A?")  # fmt: skip
    yield case("signature/flip-issuer", "A bit of the issuer is another one: it is a record of another gateway.",
               [*line.records, flipped(b"urn:tidegate:line-4")], "A?")  # fmt: skip
    chain = begin()
    chain.add(EVENT, event(), sign=STRANGER.sign)
    chain.add(EVENT, event())
    yield case("signature/link-repairs-nothing", "A CHECKPOINT leads to a record with a wrong signature: it stays "
               "ALTERED.", [*chain.records, chain.make(CHECKPOINT, checkpoint(chain))], "AXAA",
               absent=[(FIRST, "MISSING", 1, 1)])  # fmt: skip


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """A field of the protected header replaced, and the length of the header."""
    assert data.count(old) == 1
    return data[:1] + bytes((data[1] + len(new) - len(old),)) + data[2:].replace(old, new)


def _with_last_byte(record: bytes, flip: int) -> bytes:
    return record[:-1] + bytes((record[-1] ^ flip,))
