"""Keys as they stand in records (COSE_Key, RFC 9052, 7), and what it takes for a signature to be good."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from edge.seal import cbor
from edge.seal.fields import blob
from edge.seal.frame import ED25519, ES256, ESP256
from edge.seal.record import Malformed

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HALF = (ORDER // 2).to_bytes(32, "big")
_ECDSA = ec.ECDSA(hashes.SHA256())

AnyPublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class PublicKey:
    """A P-256 key (64 bytes, x and y) or an Ed25519 key (32 bytes)."""

    raw: bytes

    @property
    def is_p256(self) -> bool:
        """Whether this is a P-256 key."""
        return len(self.raw) == 64

    @classmethod
    def of(cls, key: object) -> PublicKey:
        """From a key of the library; Malformed when it is of another kind."""
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
            return cls(point[1:])
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(key.public_bytes_raw())
        raise Malformed("the key is neither P-256 nor Ed25519")

    @classmethod
    def from_cose(cls, value: object) -> PublicKey:
        """From a COSE_Key with exactly its required members; Malformed when it is no such key or not on the curve."""
        members = value if isinstance(value, dict) else {}
        key = cls(b"".join(blob(members.get(label), 32) for label in ((-2, -3) if len(members) == 4 else (-2,))))
        if key.cose() != members:
            raise Malformed("a COSE_Key of P-256 or Ed25519 was expected")
        _ = key._loaded
        return key

    def cose(self) -> dict[int, int | bytes]:
        """The required members of the COSE_Key."""
        if self.is_p256:
            return {1: 2, -1: 1, -2: self.raw[:32], -3: self.raw[32:]}
        return {1: 1, -1: 6, -2: self.raw}

    @cached_property
    def kid(self) -> bytes:
        """The key id: a hint in records, never a proof."""
        return hashlib.sha256(cbor.encode(self.cose())).digest()[:8]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the COSE_Key for people to compare, in groups."""
        digits = hashlib.sha256(cbor.encode(self.cose())).hexdigest()
        return ":".join(digits[at : at + 4] for at in range(0, 64, 4))

    @cached_property
    def _loaded(self) -> AnyPublicKey:
        try:
            if self.is_p256:
                return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + self.raw)
            return ed25519.Ed25519PublicKey.from_public_bytes(self.raw)
        except ValueError as error:
            raise Malformed(f"the key is not on its curve: {error}") from error

    def has_signed(self, alg: int, signature: bytes, message: bytes) -> bool:
        """Whether the signature is good; an ECDSA signature with a high S never is."""
        key = self._loaded
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                if alg != ED25519:
                    return False
                key.verify(signature, message)
            else:
                s = signature[32:]
                if alg not in (ES256, ESP256) or s > _HALF:
                    return False
                whole = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(s, "big"))
                key.verify(whole, message, _ECDSA)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A P-256 key that signs with low S."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = PublicKey.of(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key, in memory only."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """Give r and s, 32 bytes each, with s in the lower half."""
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")
