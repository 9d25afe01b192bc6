"""Protected headers that are not those of a record, properly signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.vectors.content import (
    FIRST,
    ISSUER,
    SESSION,
    bad,
    bads,
    begin,
    checkpoint,
    data,
    epoch,
    event,
    key_change,
)
from tests.support.vectors.wire import (
    CHECKPOINT,
    CONTENT_TYPE,
    DATA,
    EPOCH,
    EVENT,
    KEY,
    MAP,
    TEXT,
    UINT,
    ZLIB,
    ZSTD,
    Case,
    Chain,
    Tag,
    cbor,
    head,
    sealed,
)

ALG = b"\xa5\x01\x26"
PLACE = cbor(-70001) + b"\x84"


def cases() -> Iterator[Case]:
    """Bad headers."""
    line = begin()
    yield from _swapped(line)
    yield from _rebuilt(line)
    yield from _places(line)


def _swapped(line: Chain) -> Iterator[Case]:
    kid, issuer, name = cbor(SESSION.kid), cbor(ISSUER), cbor("EVENT")
    claims = b"\x01" + issuer + b"\x02" + name
    epoch_id = b"\x05" + cbor(FIRST)
    place = cbor(FIRST) + b"\x01" + cbor(line.prev)
    rows: Sequence[tuple[str, str, bytes, *tuple[bytes, ...]]] = (
        ("alg", "Algorithms that are not allowed: ES384, EdDSA by its old number, ES256K, HMAC 256, and 0.",
         ALG, b"\xa5\x01\x38\x22", b"\xa5\x01\x27", b"\xa5\x01\x38\x2e", b"\xa5\x01\x05", b"\xa5\x01\x00"),
        ("alg-other", "An algorithm that is null, a text, a number in two bytes; its label in two bytes.",
         ALG, b"\xa5\x01\xf6", b"\xa5\x01\x65ES256", b"\xa5\x01\x38\x06", b"\xa5\x18\x01\x26"),
        ("map", "The head of the map in two bytes, of indefinite length, and of four members.",
         ALG, b"\xb8\x05\x01\x26", b"\xbf\x01\x26", b"\xa4\x01\x26"),
        ("duplicate", "The algorithm twice.", ALG, b"\xa6\x01\x26\x01\x26"),
        ("critical", "A list of critical labels.", ALG, b"\xa6\x01\x26\x02\x81\x04"),
        ("content-type", "Other content types, one of them a number.", cbor(CONTENT_TYPE), b"\x18\x3c", cbor(""),
         cbor("application/cbor"), cbor("APPLICATION" + CONTENT_TYPE[11:]), cbor(CONTENT_TYPE + ";v=2")),
        ("kid", "A key id of seven and nine bytes, and one that is a text string.",
         kid, cbor(SESSION.kid[:7]), cbor(SESSION.kid + b"\x00"), cbor("01234567")),
        ("claims", "A third claim, only one, and two in another order.", b"\xa2" + claims,
         b"\xa3" + claims + b"\x06\x00", b"\xa1\x01" + issuer, b"\xa2\x02" + name + b"\x01" + issuer),
        ("issuer", "An issuer that is a number, a byte string, has a long head, or comes in chunks.",
         issuer, b"\x01", cbor(ISSUER.encode()), head(TEXT, 19, 1) + ISSUER.encode(), b"\x7f" + issuer + b"\xff"),
        ("issuer-utf-8", "An issuer that is not UTF-8: a lone byte, an overlong character, half a surrogate pair.",
         b"line-4", b"line-\xff", b"line\xc0\xad4", b"lin\xed\xa0\x80"),
        ("name", "The number of EVENT with another name.", name, cbor("DATA"), cbor("event"), cbor(""), cbor(5)),
        ("number", "The name of EVENT with another number, one in two bytes, and a negative one.",
         epoch_id, b"\x06" + cbor(FIRST), b"\x18\x05" + cbor(FIRST), b"\x25" + cbor(FIRST)),
        ("epoch", "A chain id of seven and nine bytes, and one that is a text string.",
         cbor(FIRST), cbor(FIRST[:7]), cbor(FIRST + b"\x00"), cbor(FIRST.decode())),
        ("seq", "A seq in two and nine bytes, a negative one, a floating-point number, and one beyond 64 bits.", place,
         *(cbor(FIRST) + seq + cbor(line.prev) for seq in (
             head(UINT, 1, 1), head(UINT, 1, 8), cbor(-2), cbor(1.0), cbor(Tag(2, b"\x01" + bytes(8)))))),
        ("prev", "A hash of 31 and 33 bytes, and null instead of it.",
         cbor(line.prev), cbor(line.prev[:31]), cbor(line.prev + b"\x00"), b"\xf6"),
        ("chain", "A chain of three and five items, and of indefinite length.",
         PLACE + epoch_id + b"\x01" + cbor(line.prev),
         PLACE[:-1] + b"\x83" + epoch_id + b"\x01",
         PLACE[:-1] + b"\x85" + epoch_id + b"\x01" + cbor(line.prev) + b"\x00",
         PLACE[:-1] + b"\x9f" + epoch_id + b"\x01" + cbor(line.prev) + b"\xff"),
        ("chain-label", "The label of the chain in nine bytes.", PLACE, head(1, 70000, 8) + b"\x84"),
    )  # fmt: skip
    for slug, what, old, *new in rows:
        yield bads(f"header/{slug}", what, [line.make(EVENT, event(), swap=(old, each)) for each in new])


def _rebuilt(line: Chain) -> Iterator[Case]:
    alg, content, kid, claims, chain = (
        cbor(1) + cbor(-7), cbor(3) + cbor(CONTENT_TYPE), cbor(4) + cbor(SESSION.kid),
        cbor(15) + cbor({1: ISSUER, 2: "EVENT"}), cbor(-70001) + cbor([5, FIRST, 1, line.prev]),
    )  # fmt: skip
    enc = cbor(-70002) + cbor(1)
    payload = cbor(event())
    for slug, what, lists in (
        ("missing", "Each member of the header is missing in turn.",
         [[content, kid, claims, chain], [alg, kid, claims, chain], [alg, content, claims, chain],
          [alg, content, kid, chain], [alg, content, kid, claims]]),
        ("order", "The members in another order.",
         [[alg, content, claims, kid, chain], [chain, alg, content, kid, claims], [alg, content, kid, chain, claims]]),
        ("more", "One more member: an unknown label, a text, certificates.",
         [[alg, content, kid, claims, chain, cbor(-70003) + cbor(1)], [alg, content, kid, claims, chain, b"\x61x\x01"],
          [alg, content, kid, claims, cbor(33) + cbor(b""), chain]]),
        ("enc-order", "The encoding before the chain.", [[alg, content, kid, claims, enc, chain]]),
    ):  # fmt: skip
        headers = [head(MAP, len(members)) + b"".join(members) for members in lists]
        yield bads(f"header/{slug}", what, [sealed(protected, payload, SESSION.sign) for protected in headers])
    whole = head(MAP, 5) + alg + content + kid + claims + chain
    yield bads("header/not-exactly-a-map", "A byte too many, a byte too few, an array, and bytes that are not CBOR.",
               [sealed(each, payload, SESSION.sign) for each in (
                   whole + b"\x00", whole[:-1], cbor([1, -7]), b"\xff" * 16)])  # fmt: skip


def _places(line: Chain) -> Iterator[Case]:
    zeros, ones = bytes(32), b"\x01" * 32
    yield bads("header/enc", "The encodings 0, 3 and null; it is absent where the payload is plain.",
               [line.make(DATA, data(), enc=0), line.make(DATA, data(), enc=3),
                line.make(DATA, data(), enc=1, swap=(cbor(-70002) + b"\x01", cbor(-70002) + b"\xf6"))])  # fmt: skip
    yield bads("header/enc-type", "A packed EVENT, KEY and CHECKPOINT.",
               [line.make(EVENT, event(), enc=ZLIB), line.make(KEY, key_change(SESSION), enc=ZSTD),
                line.make(CHECKPOINT, checkpoint(line), enc=ZLIB)])  # fmt: skip
    yield bads("header/seq-0", "An EVENT with seq 0, with and without the hash of a record before.",
               [line.make(EVENT, event(), seq=0, prev=ones), line.make(EVENT, event(), seq=0, prev=zeros)])  # fmt: skip
    yield bad("header/no-prev", "The hash of the record before is zero.", line.make(EVENT, event(), prev=zeros))
    yield bads("header/epoch-seq-1", "A second EPOCH after the first, with and without the hash of the first.",
               [line.make(EPOCH, epoch()), line.make(EPOCH, epoch(), prev=zeros)])  # fmt: skip
    yield bad("header/epoch-prev", "An EPOCH that names a record before it.",
              line.make(EPOCH, epoch(), seq=0, prev=ones))  # fmt: skip
