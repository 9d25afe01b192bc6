"""Frames and protected headers that are not those of a record, and signatures that do not fit."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.vectors.content import (
    ED_SESSION,
    FIRST,
    IDENTITY,
    NEXT_SESSION,
    OTHER_GATEWAY,
    SESSION,
    STRANGER,
    bad,
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
    for name, what, record in (
        ("empty", "No bytes at all.", b""),
        ("tag-only", "The tag, and nothing after it.", right[:1]),
        ("no-tag", "A COSE_Sign1 without its tag.", right[1:]),
        ("tag-17", "Tag 17, a COSE_Mac0.", b"\xd1" + right[1:]),
        ("tag-98", "Tag 98, a COSE_Sign.", b"\xd8\x62" + right[1:]),
        ("tag-long", "Tag 18 in two bytes.", b"\xd8\x12" + right[1:]),
        ("two-tags", "The tag of self-described CBOR before it.", b"\xd9\xd9\xf7" + right),
        ("array-3", "An array of three items.", b"\xd2\x83" + body[:-66]),
        ("array-5", "An array of five items.", b"\xd2\x85" + body + b"\xf6"),
        ("array-long", "The head of the array in two bytes.", b"\xd2\x98\x04" + body),
        ("array-indefinite", "An array of indefinite length.", b"\xd2\x9f" + body + b"\xff"),
        ("protected-long", "The length of the protected header in three bytes.",
         b"\xd2\x84\x59\x00" + body[1:]),
        ("protected-indefinite", "A protected header of indefinite length.",
         b"\xd2\x84\x5f" + protected + b"\xff\xa0" + after),
        ("protected-map", "A protected header that is a map instead of a byte string.",
         b"\xd2\x84" + protected[2:] + b"\xa0" + after),
        ("protected-empty", "An empty protected header.", b"\xd2\x84\x40\xa0" + after),
        ("unprotected", "A key id in the unprotected header.", b"\xd2\x84" + protected + b"\xa1\x04\x41\x00" + after),
        ("unprotected-indefinite", "An empty unprotected header of indefinite length.",
         b"\xd2\x84" + protected + b"\xbf\xff" + after),
        ("unprotected-null", "Null instead of the unprotected header.", b"\xd2\x84" + protected + b"\xf6" + after),
        ("payload-detached", "A payload that is elsewhere.",
         b"\xd2\x84" + protected + b"\xa0\xf6" + right[signature_at:]),
        ("payload-text", "A payload that is a text string.",
         b"\xd2\x84" + protected + b"\xa0\x78" + after[1:]),
        ("payload-long", "The length of the payload in three bytes.",
         b"\xd2\x84" + protected + b"\xa0\x59\x00" + after[1:]),
        ("signature-empty", "An empty signature.", right[:signature_at] + b"\x40"),
        ("signature-63", "A signature of 63 bytes.", right[:signature_at] + b"\x58\x3f" + right[-64:-1]),
        ("signature-65", "A signature of 65 bytes.", right[:signature_at] + b"\x58\x41" + right[-64:] + b"\x00"),
        ("signature-der", "A signature as DER.", right[:signature_at] + b"\x58\x46\x30\x44" + _der(right[-64:])),
        ("signature-long", "The length of the signature in three bytes.",
         right[:signature_at] + b"\x59\x00\x40" + right[-64:]),
        ("signature-text", "A signature that is a text string.", right[:signature_at] + b"\x78\x40" + right[-64:]),
        ("signature-missing", "No signature.", right[:signature_at]),
        ("cut", "The last byte is missing.", right[:-1]),
        ("half", "The second half is missing.", right[: len(right) // 2]),
        ("trailing", "A byte follows.", right + b"\x00"),
        ("twice", "The same record twice in one.", right * 2),
        ("indefinite-break", "A break after the record.", right + b"\xff"),
    ):  # fmt: skip
        yield bad(f"frame/{name}", what, record)


def _der(signature: bytes) -> bytes:
    return b"\x02\x20" + signature[:32] + b"\x02\x20" + signature[32:]


def _signatures(line: Chain, right: bytes) -> Iterator[Case]:
    def flipped(what: bytes, bit: int = 1) -> bytes:
        at = right.index(what) + len(what) - 1
        return right[:at] + bytes((right[at] ^ bit,)) + right[at + 1 :]

    def signed(r: int, s: int) -> bytes:
        return right[:-64] + r.to_bytes(32, "big") + s.to_bytes(32, "big")

    r, s = int.from_bytes(right[-64:-32], "big"), int.from_bytes(right[-32:], "big")
    for name, what, record, verdict in (
        ("high-s", "The other s of a right signature.", high_s(right), "X"),
        ("r-0", "r is 0.", signed(0, s), "X"),
        ("s-0", "s is 0.", signed(r, 0), "X"),
        ("zero", "r and s are 0.", signed(0, 0), "X"),
        ("r-order", "r is the order of the group.", signed(ORDER, s), "X"),
        ("r-beyond", "r is 2²⁵⁶ - 1.", signed(2**256 - 1, s), "X"),
        ("s-order", "s is the order of the group.", signed(r, ORDER), "X"),
        ("swapped", "r and s are swapped.", signed(s, r), "X"),
        ("flip-r", "A bit of r is another one.", signed(r ^ 1, s), "X"),
        ("flip-s", "A bit of s is another one.", signed(r, s ^ 1), "X"),
        ("flip-payload", "A bit of the payload is another one.", flipped(b"plc-1"), "X"),
        ("flip-prev", "A bit of the hash of the record before is another one.", flipped(line.prev), "X"),
        ("flip-alg", "ES256 has become ESP256 after it was signed.",
         right.replace(b"\x01\x26\x03", b"\x01\x28\x03"), "X"),
        ("flip-content-type", "A bit of the content type is another one.", flipped(b"record+cbor"), "G"),
        ("flip-name", "A bit of the name of the type is another one.", flipped(b"EVENT"), "G"),
        ("flip-tag", "A bit of the tag is another one.", bytes((right[0] ^ 1,)) + right[1:], "G"),
        ("other-type", "An EVENT has become a DATA after it was signed.",
         right[:2] + _replaced(right[2:], b"\x65EVENT" + PLACE + b"\x05", b"\x64DATA" + PLACE + b"\x00"),
         "X"),
        ("flip-kid", "A bit of the key id is another one: it names a key that is not allowed.",
         flipped(SESSION.kid), "U"),
        ("another-payload", "The payload of another record under this header.",
         right.replace(cbor(event()), cbor(event(1))), "X"),
        ("another-key", "Signed by another key under the id of the right one.",
         line.make(EVENT, event(), sign=STRANGER.sign), "X"),
        ("unknown-key", "Signed by an unknown key.", line.make(EVENT, event(), key=STRANGER), "U"),
        ("identity-signs-event", "The identity signs an EVENT.", line.make(EVENT, event(), key=IDENTITY), "U"),
        ("session-signs-checkpoint", "The session key signs a CHECKPOINT.",
         line.make(CHECKPOINT, checkpoint(line), key=SESSION), "U"),
        ("later-session", "Signed by a key that no KEY has brought.",
         line.make(EVENT, event(), key=NEXT_SESSION), "U"),
        ("alg-of-ed25519", "Ed25519 is named, with a signature of the right P-256 key.",
         line.make(EVENT, event(), alg=-19), "X"),
        ("ed25519-under-p256", "An Ed25519 signature under the id of the right P-256 key.",
         line.make(EVENT, event(), alg=-19, sign=ED_SESSION.sign), "X"),
    ):  # fmt: skip
        yield bad(f"signature/{name}", what, record, verdict)
    yield bad("signature/another-gateway", "Signed by the identity of another gateway.",
              line.make(EVENT, event(), key=OTHER_GATEWAY), "U")  # fmt: skip
    chain = begin(session=ED_SESSION)
    for name, what, record in (
        ("es256-under-ed25519", "ES256 is named, with a signature of the right Ed25519 key.",
         chain.make(EVENT, event(), alg=-7)),
        ("p256-under-ed25519", "An ES256 signature under the id of the right Ed25519 key.",
         chain.make(EVENT, event(), alg=-7, sign=SESSION.sign)),
        ("ed25519-flip", "A bit of an Ed25519 signature is another one.",
         _with_last_byte(chain.make(EVENT, event()), 1)),
        ("ed25519-s-beyond", "S of an Ed25519 signature is not below the order of the group.",
         _with_last_byte(chain.make(EVENT, event()), 0x10)),
    ):  # fmt: skip
        yield case(f"signature/{name}", what, [*chain.records, record], "AX")
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
