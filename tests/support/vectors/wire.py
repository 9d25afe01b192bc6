"""CBOR, COSE_Sign1 and chains, written byte by byte: also what no right writer would write."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

UINT, NEGATIVE, BLOB, TEXT, ARRAY, MAP, TAG = range(7)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CONTENT_TYPE = "application/vnd.tidegate.record+cbor"
ES256, ESP256, ED25519 = -7, -9, -19
ZLIB, ZSTD = 1, 2

Kind = tuple[int, str]
DATA, EPOCH, KEY, CHECKPOINT, CATALOG, EVENT, LOSS, GAP, TIME, CONFIG, STOP, CONTEXT = enumerate(
    ("DATA", "EPOCH", "KEY", "CHECKPOINT", "CATALOG", "EVENT", "LOSS", "GAP", "TIME", "CONFIG", "STOP", "CONTEXT")
)


@dataclass(frozen=True)
class Raw:
    """Bytes that stand in an encoding as they are."""

    data: bytes


@dataclass(frozen=True)
class Tag:
    """A tagged item."""

    number: int
    value: object


def head(major: int, value: int, size: int | None = None) -> bytes:
    """The head of an item, the shortest, or with `size` bytes after the first."""
    if size is None:
        size = next(each for each in (0, 1, 2, 4, 8) if value < (24 if each == 0 else 256**each))
    if size == 0:
        return bytes((major << 5 | value,))
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size],)) + value.to_bytes(size, "big")


def cbor(value: object) -> bytes:
    """The deterministic encoding of a value, except for the `Raw` in it."""
    match value:
        case Raw():
            return value.data
        case None | bool():
            return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
        case int():
            return head(UINT, value) if value >= 0 else head(NEGATIVE, ~value)
        case float():
            return _float(value)
        case bytes():
            return head(BLOB, len(value)) + value
        case str():
            return head(TEXT, len(value.encode())) + value.encode()
        case list():
            return head(ARRAY, len(value)) + b"".join(map(cbor, value))
        case dict():
            items = sorted((cbor(key), cbor(item)) for key, item in value.items())
            return head(MAP, len(value)) + b"".join(key + item for key, item in items)
        case Tag():
            return head(TAG, value.number) + cbor(value.value)
        case _:
            raise TypeError(f"{value!r}")


def _float(value: float) -> bytes:
    if math.isnan(value):
        return b"\xf9\x7e\x00"
    for first, code in ((b"\xf9", ">e"), (b"\xfa", ">f")):
        try:
            short = struct.pack(code, value)
        except OverflowError:
            continue
        if struct.unpack(code, short)[0] == value:
            return first + short
    return b"\xfb" + struct.pack(">d", value)


@dataclass(frozen=True)
class Key:
    """A private key made of a small number."""

    number: int
    is_p256: bool = True

    @cached_property
    def private(self) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
        """The key of the library."""
        if self.is_p256:
            return ec.derive_private_key(self.number, ec.SECP256R1())
        return ed25519.Ed25519PrivateKey.from_private_bytes(self.number.to_bytes(32, "big"))

    @property
    def alg(self) -> int:
        """The algorithm that goes with it."""
        return ES256 if self.is_p256 else ED25519

    @cached_property
    def cose(self) -> dict[int, object]:
        """Its COSE_Key."""
        public = self.private.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            return {1: 1, -1: 6, -2: public.public_bytes_raw()}
        numbers = public.public_numbers()
        return {1: 2, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}

    @cached_property
    def kid(self) -> bytes:
        """Its id in records."""
        return hashlib.sha256(cbor(self.cose)).digest()[:8]

    def pem(self, issuer: str) -> str:
        """The public key as a trust anchor for one issuer."""
        pem = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"Subject: {issuer}\n{pem.decode()}"

    def sign(self, message: bytes) -> bytes:
        """A signature, ECDSA with s in the lower half. The same message always has the same one."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        der = self.private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")


def high_s(record: bytes) -> bytes:
    """A record with the other s."""
    return record[:-32] + (ORDER - int.from_bytes(record[-32:], "big")).to_bytes(32, "big")


def sealed(protected: bytes, payload: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A record of a protected header and a payload."""
    parts = head(BLOB, len(protected)) + protected, head(BLOB, len(payload)) + payload
    signature = sign(b"\x84\x6aSignature1" + parts[0] + b"\x40" + parts[1])
    return b"\xd2\x84" + parts[0] + b"\xa0" + parts[1] + head(BLOB, len(signature)) + signature


@dataclass
class Chain:
    """A chain that is being written; keys and counter are what the next record is made with."""

    epoch: bytes
    identity: Key
    session: Key
    issuer: str = "urn:tidegate:line-4"
    records: list[bytes] = field(default_factory=list)
    seq: int = 0
    prev: bytes = bytes(32)

    def header(
        self, kind: Kind, *, alg: int | None = None, kid: bytes | None = None, issuer: str | None = None,
        epoch: bytes | None = None, seq: int | None = None, prev: bytes | None = None, enc: int | None = None,
        key: Key | None = None,
    ) -> bytes:  # fmt: skip
        """The protected header of the next record, except for what the arguments change."""
        key = key or self._key(kind)
        number, name = kind
        place = [number, epoch or self.epoch, self.seq if seq is None else seq, self.prev if prev is None else prev]
        members = [
            (1, key.alg if alg is None else alg), (3, CONTENT_TYPE), (4, key.kid if kid is None else kid),
            (15, {1: self.issuer if issuer is None else issuer, 2: name}), (-70001, place),
        ]  # fmt: skip
        members += [] if enc is None else [(-70002, enc)]
        return head(MAP, len(members)) + b"".join(cbor(label) + cbor(value) for label, value in members)

    def make(
        self, kind: Kind, payload: object, *, swap: tuple[bytes, bytes] | None = None,
        sign: Callable[[bytes], bytes] | None = None, **wrong: Any,
    ) -> bytes:  # fmt: skip
        """A record for the next place; `swap` replaces bytes of the protected header before it is signed."""
        protected = self.header(kind, **wrong)
        if swap is not None:
            assert protected.count(swap[0]) == 1, f"{swap[0]!r} comes {protected.count(swap[0])} times"
            protected = protected.replace(*swap)
        key = wrong.get("key") or self._key(kind)
        return sealed(protected, payload if isinstance(payload, bytes) else cbor(payload), sign or key.sign)

    def add(self, kind: Kind, payload: object, **wrong: Any) -> bytes:
        """Write the next record."""
        return self.append(self.make(kind, payload, **wrong))

    def append(self, record: bytes) -> bytes:
        """Take a record as the next one."""
        self.records.append(record)
        self.seq += 1
        self.prev = hashlib.sha256(record).digest()
        return record

    def copy(self) -> Chain:
        """The same chain, to go on in another way."""
        return Chain(
            self.epoch, self.identity, self.session, self.issuer, list(self.records), self.seq, self.prev
        )  # fmt: skip

    def _key(self, kind: Kind) -> Key:
        return self.identity if kind in (EPOCH, CHECKPOINT) else self.session


@dataclass(frozen=True)
class Case:
    """Records in an order of arrival, and what is true of them."""

    name: str
    what: str
    records: Sequence[bytes]
    verdicts: Sequence[str]
    trust: Sequence[str]
    unknown: int
    absent: Sequence[Sequence[Any]]
    tail: Mapping[str, str]
    wholly: bool
    reading: bool = False

    def json(self) -> dict[str, object]:
        """Its line in the file."""
        return {
            "name": self.name, "what": self.what, "trust": self.trust, "records": [each.hex() for each in self.records],
            "verdicts": self.verdicts, "unknown": self.unknown, "absent": self.absent, "tail": self.tail,
            "wholly": self.wholly, "reading": self.reading,
        }  # fmt: skip
