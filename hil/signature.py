"""Signing a report, so that `openssl dgst -sha256 -verify` can check it as well as we can."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.errors import ConfigError
from edge.seal import IdentityKey, PublicKey


def sign(key: IdentityKey, document: bytes) -> bytes:
    """ECDSA over the SHA-256 of the document, in DER (RFC 3279, section 2.2.3)."""
    raw = key.sign(document)
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


def signer(anchor: Path, document: bytes, signature: bytes) -> str:
    """Fingerprint of the key in a PEM file when it signed the document, else empty. Raises ConfigError."""
    try:
        key = load_pem_public_key(anchor.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"trust anchor {anchor} is no public key in PEM form; give the .pub.pem of the key"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"trust anchor {anchor} is no P-256 key, and reports are signed with one")
    try:
        key.verify(signature, document, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return ""
    return PublicKey.of(key).fingerprint
