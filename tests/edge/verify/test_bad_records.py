"""Bad records, each with its verdict. They are put where the good record is missing."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable

import cbor2
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ed25519

from edge.seal import Encoding, PublicKey, RecordType, encode, issuer_of, parse
from edge.seal.cbor import encode_bytes, encode_text
from edge.seal.cose import build, header_start, protected_and_payload, signed_bytes
from edge.seal.keys import ORDER, SigningKey
from edge.seal.payloads import Checkpoint, KeyChange
from edge.verify import Verdict, Verifier
from tests.support.chains import TIME, Plant, data, grow, new_identity, start

PLACE = 5
OTHER = SigningKey.generate()
OTHER_GATEWAY = new_identity()


class Forge:
    """Makes records for one place of a chain, with whatever is wrong about them."""

    def __init__(self) -> None:
        self.plant = start()
        grow(self.plant, PLACE, stop=False)
        self.session = self.plant.chain.session
        self.head = self.plant.chain.head
        self.good = self.plant.chain.seal(RecordType.DATA, data(PLACE))
        grow(self.plant, 12, checkpoint_every=7)

    def make(
        self, *, kind: RecordType = RecordType.DATA, payload: bytes | None = None, kid: bytes | None = None,
        alg: int = -7, issuer: str | None = None, seq: int = PLACE, prev: bytes | None = None,
        enc: Encoding = Encoding.PLAIN, sign: Callable[[bytes], bytes] | None = None, epoch: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """A valid record, except for what the arguments change."""
        signer = self.plant.identity if kind.is_identity_signed else self.session
        header = header_start(
            alg, kid or signer.public.kid, issuer or self.plant.chain.issuer, kind, epoch or self.head.epoch
        )
        prev = self.head.hash if prev is None else prev
        parts = protected_and_payload(header, seq, prev, enc, data(PLACE) if payload is None else payload)
        return build(*parts, (sign or signer.sign)(signed_bytes(*parts)))

    def raw(self, replace: bytes, by: bytes) -> bytes:
        """The good record with a byte sequence of its header replaced, everything signed anew."""
        frame = parse(self.good.data)
        start = len(b"\x84\x6aSignature1") + 2
        protected = frame.signed[start : start + frame.signed[start - 1]]
        assert protected.count(replace) == 1
        changed = encode_bytes(protected.replace(replace, by))
        payload = encode_bytes(frame.payload)
        return build(changed, payload, self.session.sign(signed_bytes(changed, payload)))


def _high_s(forge: Forge) -> bytes:
    record = forge.good.data
    s = int.from_bytes(record[-32:], "big")
    return record[:-32] + (ORDER - s).to_bytes(32, "big")


def _signature(value: bytes) -> Callable[[Forge], bytes]:
    return lambda forge: forge.good.data[:-66] + encode_bytes(value)


def _payload(value: object, kind: RecordType = RecordType.EVENT) -> Callable[[Forge], bytes]:
    encoded = value if isinstance(value, bytes) else cbor2.dumps(value, canonical=True)
    return lambda forge: forge.make(kind=kind, payload=encoded)


def _block(block: object) -> Callable[[Forge], bytes]:
    good = cbor2.loads(data(PLACE))
    return _payload({**good, 5: [block]}, RecordType.DATA)


def _ed25519(message: bytes) -> bytes:
    return ed25519.Ed25519PrivateKey.generate().sign(message)


def _checkpoint(forge: Forge, **wrong: object) -> bytes:
    members = {"size": PLACE, "head": forge.head.hash, "session": forge.session.public, "time": TIME, "counter": 2}
    from edge.seal import BufferState

    checkpoint = Checkpoint(buffer=BufferState(), **{**members, **wrong})
    return forge.make(kind=RecordType.CHECKPOINT, payload=encode(checkpoint))


BOMB = zlib.compress(bytes(2**21), 9)
EVENT = {1: 1, 2: "x", 3: 1, 4: "", 5: {}}
GOOD_BLOCK = [0, 0, 0, 1, [cbor2.CBORTag(85, bytes(8))], []]

CASES: dict[str, tuple[Verdict, Callable[[Forge], bytes]]] = {
    # The frame
    "empty": (Verdict.GARBAGE, lambda f: b""),
    "no tag": (Verdict.GARBAGE, lambda f: f.good.data[1:]),
    "another tag": (Verdict.GARBAGE, lambda f: b"\xd1" + f.good.data[1:]),
    "tag in long form": (Verdict.GARBAGE, lambda f: b"\xd8\x12" + f.good.data[1:]),
    "trailing byte": (Verdict.GARBAGE, lambda f: f.good.data + b"\x00"),
    "two records in one": (Verdict.GARBAGE, lambda f: f.good.data * 2),
    "cut by a byte": (Verdict.GARBAGE, lambda f: f.good.data[:-1]),
    "array of five": (Verdict.GARBAGE, lambda f: b"\xd2\x85" + f.good.data[2:] + b"\xf6"),
    "array of indefinite length": (Verdict.GARBAGE, lambda f: b"\xd2\x9f" + f.good.data[2:] + b"\xff"),
    "unprotected kid": (Verdict.GARBAGE, lambda f: f.good.data.replace(b"\xa0Y", b"\xa1\x04\x41\x00Y", 1)
                        .replace(b"\xa0X", b"\xa1\x04\x41\x00X", 1)),
    "empty signature": (Verdict.GARBAGE, _signature(b"")),
    "signature of 63 bytes": (Verdict.GARBAGE, _signature(bytes(63))),
    "signature in DER": (Verdict.GARBAGE, _signature(bytes(71))),
    "longer than a record may be": (Verdict.GARBAGE, lambda f: f.make(payload=bytes(65_600))),
    # The protected header
    "algorithm ES384": (Verdict.GARBAGE, lambda f: f.raw(b"\x01\x26\x03\x78", b"\x01\x38\x22\x03\x78")),
    "algorithm none": (Verdict.GARBAGE, lambda f: f.raw(b"\x01\x26\x03\x78", b"\x01\xf6\x03\x78")),
    "algorithm not in shortest form": (Verdict.GARBAGE, lambda f: f.raw(b"\x01\x26\x03\x78", b"\x01\x38\x06\x03\x78")),
    "another content type": (Verdict.GARBAGE, lambda f: f.raw(b"tidegate.record+", b"tidegate.thingy+")),
    "kid of four bytes": (Verdict.GARBAGE, lambda f: f.raw(encode_bytes(f.session.public.kid), encode_bytes(bytes(4)))),
    "seq not in shortest form": (Verdict.GARBAGE, lambda f: f.raw(b"\x05\x58\x20", b"\x18\x05\x58\x20")),
    "seq negative": (Verdict.GARBAGE, lambda f: f.raw(b"\x05\x58\x20", b"\x24\x58\x20")),
    "subject of another type": (Verdict.GARBAGE, lambda f: f.raw(encode_text("DATA"), encode_text("TIME"))),
    "unknown type": (Verdict.GARBAGE, lambda f: f.raw(b"\x84\x00\x48", b"\x84\x0b\x48")),
    "empty issuer": (Verdict.GARBAGE, lambda f: f.raw(encode_text(f.plant.chain.issuer), encode_text(""))),
    "issuer not UTF-8": (Verdict.GARBAGE, lambda f: f.raw(b"line-4", b"line-\xff")),
    "labels out of order": (Verdict.GARBAGE, lambda f: f.raw(
        b"\x04" + encode_bytes(f.session.public.kid) + b"\x0f",
        b"\x0f" + encode_bytes(f.session.public.kid) + b"\x04")),
    "duplicate label": (Verdict.GARBAGE, lambda f: f.raw(b"\xa5\x01\x26", b"\xa6\x01\x26\x01\x26")),
    "one more label": (Verdict.GARBAGE, lambda f: f.raw(b"\xa5\x01\x26", b"\xa6\x01\x26\x02\x80")),
    "header of indefinite length": (Verdict.GARBAGE, lambda f: f.raw(b"\xa5\x01\x26", b"\xbf\x01\x26")),
    "epoch of seven bytes": (Verdict.GARBAGE, lambda f: f.raw(
        encode_bytes(f.head.epoch), encode_bytes(f.head.epoch[:7]))),
    "EPOCH in the middle": (Verdict.GARBAGE, lambda f: f.make(kind=RecordType.EPOCH)),
    "no hash of the record before": (Verdict.GARBAGE, lambda f: f.make(prev=bytes(32))),
    "packed EVENT": (Verdict.GARBAGE, lambda f: f.make(kind=RecordType.EVENT, enc=Encoding.ZLIB)),
    # The signature
    "high S": (Verdict.ALTERED, _high_s),
    "zero signature": (Verdict.ALTERED, _signature(bytes(64))),
    "flipped payload bit": (Verdict.ALTERED, lambda f: f.good.data[:-70] + bytes((f.good.data[-70] ^ 1,))
                            + f.good.data[-69:]),
    "Ed25519 under a P-256 key": (Verdict.ALTERED, lambda f: f.make(alg=-19, sign=_ed25519)),
    "another algorithm named": (Verdict.ALTERED, lambda f: f.make(alg=-19)),
    "kid of the right key, signed by another": (Verdict.ALTERED, lambda f: f.make(sign=OTHER.sign)),
    "an unknown key": (Verdict.UNTRUSTED, lambda f: f.make(kid=OTHER.public.kid, sign=OTHER.sign)),
    "the identity signs data": (Verdict.UNTRUSTED, lambda f: f.make(
        kid=f.plant.identity.key_id, sign=f.plant.identity.sign)),
    "the identity signs data under the session's kid": (Verdict.UNTRUSTED, lambda f: f.make(
        sign=f.plant.identity.sign)),
    "another gateway's identity signs": (Verdict.UNTRUSTED, lambda f: f.make(
        kid=OTHER_GATEWAY.key_id, sign=OTHER_GATEWAY.sign)),
    "a session key signs a checkpoint": (Verdict.UNTRUSTED, lambda f: f.make(
        kind=RecordType.CHECKPOINT, kid=f.session.public.kid, sign=f.session.sign)),
    "another epoch": (Verdict.UNVERIFIABLE, lambda f: f.make(epoch=b"epochxyz")),
    "another issuer": (Verdict.UNVERIFIABLE, lambda f: f.make(issuer=issuer_of("line-5"))),
    # Signed by the right key, and yet not in the record format
    "payload not CBOR": (Verdict.GARBAGE, _payload(b"\xff")),
    "payload empty": (Verdict.GARBAGE, _payload(b"")),
    "payload with a trailing byte": (Verdict.GARBAGE, _payload(cbor2.dumps(EVENT) + b"\x00")),
    "keys out of order": (Verdict.GARBAGE, _payload(cbor2.dumps(dict(reversed(EVENT.items()))))),
    "duplicate keys": (Verdict.GARBAGE, _payload(b"\xa6\x01\x01" + cbor2.dumps(EVENT)[1:])),
    "an integer in long form": (Verdict.GARBAGE, _payload(cbor2.dumps(EVENT).replace(b"\x01\x01", b"\x01\x18\x01"))),
    "a map of indefinite length": (Verdict.GARBAGE, _payload(b"\xbf" + cbor2.dumps(EVENT)[1:] + b"\xff")),
    "a field with the number 0": (Verdict.GARBAGE, _payload({0: 0, **EVENT})),
    "a field with a name": (Verdict.GARBAGE, _payload({**EVENT, "x": 0})),
    "a new field beyond the limits": (Verdict.GARBAGE, _payload({**EVENT, 6: cbor2.CBORTag(81, bytes(8))})),
    "a field too few": (Verdict.GARBAGE, _payload({1: 1, 2: "x", 3: 1, 4: ""})),
    "a field of another type": (Verdict.GARBAGE, _payload({**EVENT, 2: 7})),
    "a truth value for a number": (Verdict.GARBAGE, _payload({**EVENT, 1: True})),
    "a float in long form": (Verdict.GARBAGE, _payload(cbor2.dumps({**EVENT, 5: {"v": 1.5}}))),
    "another NaN": (Verdict.GARBAGE, _payload(cbor2.dumps({**EVENT, 5: {"v": 1.5}}, canonical=True)
                    .replace(b"\xf9\x3e\x00", b"\xf9\x7e\x01"))),
    "a big number": (Verdict.GARBAGE, _payload({**EVENT, 1: 2**64})),
    "a date": (Verdict.GARBAGE, _payload(cbor2.dumps({**EVENT, 5: {"v": cbor2.CBORTag(1, 5)}}))),
    "a tag that is not allowed": (Verdict.GARBAGE, _payload({**EVENT, 5: {"v": cbor2.CBORTag(64, b"x")}})),
    "undefined": (Verdict.GARBAGE, _payload({**EVENT, 5: {"v": cbor2.undefined}})),
    "a simple value": (Verdict.GARBAGE, _payload({**EVENT, 5: {"v": cbor2.CBORSimpleValue(99)}})),
    "too deep": (Verdict.GARBAGE, _payload({**EVENT, 5: {"v": [[[[[]]]]]}})),
    "a key that is no text": (Verdict.GARBAGE, _payload({**EVENT, 5: {1: 1}})),
    "a key off the curve": (Verdict.GARBAGE, _payload(
        {1: {1: 2, -1: 1, -2: bytes(32), -3: bytes(32)}, 2: cbor2.loads(data(PLACE))[3]}, RecordType.KEY)),
    "a loss backwards": (Verdict.GARBAGE, _payload({1: 5, 2: 4, 3: 0, 4: 0, 5: 0, 6: 0, 7: 1, 8: b""},
                                                   RecordType.LOSS)),
    "a block of a negative kind": (Verdict.GARBAGE, _block([-1, *GOOD_BLOCK[1:]])),
    "a block of a later kind beyond the limits": (Verdict.GARBAGE, _block([7, cbor2.undefined])),
    "a typed array of another tag": (Verdict.GARBAGE, _block([*GOOD_BLOCK[:4], [cbor2.CBORTag(81, bytes(8))], []])),
    "half a value": (Verdict.GARBAGE, _block([*GOOD_BLOCK[:4], [cbor2.CBORTag(85, bytes(7))], []])),
    "changes in no order": (Verdict.GARBAGE, _block([2, 0, 0, 1, [[cbor2.CBORTag(69, b"\1\0\0\0"),
                                                                   cbor2.CBORTag(85, bytes(8))]], []])),
    "fewer values than positions": (Verdict.GARBAGE, _block([2, 0, 0, 1, [[cbor2.CBORTag(69, b"\0\0\1\0"),
                                                                          cbor2.CBORTag(85, bytes(4))]], []])),
    "a status run that is good": (Verdict.GARBAGE, _block([*GOOD_BLOCK[:5], [[0, 1, 0]]])),
    "zlib of two megabytes": (Verdict.GARBAGE, lambda f: f.make(payload=BOMB, enc=Encoding.ZLIB)),
    "zstd of two megabytes": (Verdict.GARBAGE, lambda f: f.make(
        payload=zstandard.compress(bytes(2**21)), enc=Encoding.ZSTD)),
    "zlib cut": (Verdict.GARBAGE, lambda f: f.make(payload=zlib.compress(data(PLACE))[:-1], enc=Encoding.ZLIB)),
    "zlib and more": (Verdict.GARBAGE, lambda f: f.make(payload=zlib.compress(data(PLACE)) + b"x", enc=Encoding.ZLIB)),
    "plain called zstd": (Verdict.GARBAGE, lambda f: f.make(enc=Encoding.ZSTD)),
    # Signed by the right key, with another history
    "a checkpoint of another size": (Verdict.FORK, lambda f: _checkpoint(f, size=PLACE + 1)),
    "a checkpoint of another head": (Verdict.FORK, lambda f: _checkpoint(f, head=bytes(32))),
    "a record that names another before it": (Verdict.FORK, lambda f: f.make(prev=hashlib.sha256(b"").digest())),
    "another record than its successor names": (Verdict.FORK, lambda f: f.make(payload=data(99))),
    "a key that its successors do not follow": (Verdict.FORK, lambda f: f.make(
        kind=RecordType.KEY, payload=encode(KeyChange(session=f.session.public, time=TIME)))),
}  # fmt: skip


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


def _verifier_without_the_place(plant: Plant) -> Verifier:
    verifier = Verifier(plant.trust)
    for record in plant.records:
        if record.seq != PLACE:
            verifier.add(record.data)
    return verifier


@pytest.mark.parametrize("name", CASES)
def test_a_bad_record_has_its_verdict(name: str, forge: Forge) -> None:
    expected, make = CASES[name]
    verifier = _verifier_without_the_place(forge.plant)
    verifier._trust.pin(OTHER_GATEWAY.public, issuer_of("line-5"))

    first = verifier.add(make(forge))[0]

    assert first.verdict is expected, first.reason
    assert first.reason
    assert not verifier.report().is_wholly_authentic()


def test_there_are_enough_bad_records() -> None:
    assert len(CASES) >= 40


def test_the_good_record_is_welcome_after_all_of_the_rejected_ones(forge: Forge) -> None:
    verifier = _verifier_without_the_place(forge.plant)
    for expected, make in CASES.values():
        if expected is not Verdict.FORK:
            verifier.add(make(forge))

    assert verifier.add(forge.good.data)[0].verdict is Verdict.AUTHENTIC


def test_es256_is_also_called_esp256(forge: Forge) -> None:
    verifier = _verifier_without_the_place(forge.plant)

    assert verifier.add(forge.make(alg=-9))[0].verdict is Verdict.FORK, "good, and not the record its successor names"


def test_an_ed25519_session_key_is_verified(plant: Plant) -> None:
    fresh = start()
    key = ed25519.Ed25519PrivateKey.generate()
    public = PublicKey.of(key.public_key())
    change = fresh.chain.seal(RecordType.KEY, encode(KeyChange(session=public, time=TIME)))
    header = header_start(-19, public.kid, fresh.chain.issuer, RecordType.DATA, change.epoch)
    parts = protected_and_payload(header, 2, change.hash, Encoding.PLAIN, data(2))
    verifier = Verifier(fresh.trust)
    verifier.add(fresh.records[0].data)
    verifier.add(change.data)

    assert verifier.add(build(*parts, key.sign(signed_bytes(*parts))))[0].verdict is Verdict.AUTHENTIC
    assert verifier.add(build(*parts, OTHER.sign(signed_bytes(*parts))))[0].verdict is Verdict.ALTERED
