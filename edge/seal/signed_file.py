"""A detached signature over the bytes of a file, as `openssl pkeyutl -verify -rawin` checks it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edge.errors import ConfigError
from edge.seal.keys import PublicKey

_NEEDED = "give a private key, Ed25519 or P-256, in PEM without a passphrase: openssl genpkey -algorithm ed25519"


class FileSigner:
    """A private key that signs files: Ed25519, or P-256 with SHA-256 and the signature in DER.

    Raises:
        ConfigError: this is no such key; `name` is its name in the message.
    """

    def __init__(self, pem: bytes, name: str) -> None:
        if b"PRIVATE KEY-----" not in pem:
            what = "holds a public key or a certificate, and no private key" if b"-----BEGIN" in pem else "is no PEM"
            raise ConfigError(f"{name} {what}; {_NEEDED}")
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except TypeError:
            raise ConfigError(f"{name} has a passphrase, and nobody is asked for it; {_NEEDED}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"{name} cannot be used; {_NEEDED}") from None
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            self._key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = key
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            self._key = key
        else:
            raise ConfigError(f"{name} is of another kind; {_NEEDED}")

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a file. Raises ConfigError."""
        try:
            return cls(path.read_bytes(), f"key {path}")
        except OSError as error:
            raise ConfigError(f"key {path} cannot be read: {error.strerror}") from error

    def sign(self, data: bytes) -> bytes:
        """The signature over exactly these bytes."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def public(self) -> PublicKey:
        """The public key."""
        return PublicKey.of(self._key.public_key())

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
