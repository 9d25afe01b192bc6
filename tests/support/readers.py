"""Certificates of an authority for those who read metrics, and for the program that serves them, as PEM files."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from tests.support.certificates import PEM, certificate

SERVER, READER = Usage.SERVER_AUTH, Usage.CLIENT_AUTH


class Authority:
    """Issues certificates that are valid today, into a directory."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = self._write(name, self._sign(name, self._key, is_authority=True))

    def issue(self, name: str, usage: ObjectIdentifier = READER, days: int = 9) -> Path:
        """NAME.pem with NAME.key beside it; `days` below 0 has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PrivateFormat.PKCS8
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))
        return self._write(name, self._sign(name, key, days=days, usages=[usage]))

    def context_of(self, reader: Path | None) -> ssl.SSLContext:
        """What a reader connects with, who trusts this authority."""
        context = ssl.create_default_context(cafile=self.path)
        context.check_hostname = False
        if reader is not None:
            context.load_cert_chain(reader, reader.with_suffix(".key"))
        return context

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool = False,
        usages: Sequence[ObjectIdentifier] = (),
        days: int = 9,
    ) -> bytes:
        now = datetime.now(UTC)
        made = certificate(
            name, key, self.name, self._key, is_authority=is_authority, usages=usages,
            since=now - timedelta(99), until=now + timedelta(days),
        )  # fmt: skip
        return made.public_bytes(PEM)

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / f"{name}.pem"
        path.write_bytes(content)
        return path
