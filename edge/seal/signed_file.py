"""A detached signature over the bytes of a file, as `openssl pkeyutl -verify -rawin` checks it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edge.errors import ConfigError

_NEEDED = "give a private key, Ed25519 or P-256, in PEM without a passphrase: openssl genpkey -algorithm ed25519"


class FileSigner:
    """A private key that signs files: Ed25519, or P-256 with SHA-256 and the signature in DER.

    Raises:
        ConfigError: the file cannot be read, or holds no such key.
    """

    def __init__(self, path: Path) -> None:
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"key {path} cannot be read: {error.strerror}") from error
        if b"PRIVATE KEY-----" not in pem:
            what = "holds a public key or a certificate, and no private key" if b"-----BEGIN" in pem else "is no PEM"
            raise ConfigError(f"key {path} {what}; {_NEEDED}")
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except TypeError:
            raise ConfigError(f"key {path} has a passphrase, and nobody is asked for it; {_NEEDED}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"key {path} cannot be used; {_NEEDED}") from None
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            self._key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = key
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            self._key = key
        else:
            raise ConfigError(f"key {path} is of another kind; {_NEEDED}")

    def sign(self, data: bytes) -> bytes:
        """The signature over exactly these bytes."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def public_pem(self) -> str:
        """The public key, for whoever checks the signature."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in DER, as `openssl pkey -pubin -outform DER | openssl sha256` gives it."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self._key.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()
