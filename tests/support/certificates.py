"""Certificates as a plant's certification authority would issue them, valid around the time of the test records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.seal import IdentityKey, MemoryCounter
from tests.support.chains import UTC_NS, Plant, start

PEM = serialization.Encoding.PEM

AT = datetime.fromtimestamp(UTC_NS // 10**9, UTC)
ROOT, MIDDLE, GATEWAY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
    uri: str | None = None,
    usages: Sequence[x509.ObjectIdentifier] = (),
    since: datetime = AT - timedelta(days=9),
    until: datetime = AT + timedelta(days=1),
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if uri is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signer, hashes.SHA256())


def revocation_list(
    issuer: str, signer: ec.EllipticCurvePrivateKey, revoked: x509.Certificate, at: datetime
) -> x509.CertificateRevocationList:
    """A list of an authority with one certificate."""
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(at).build()
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .last_update(at)
        .next_update(at + timedelta(days=30))
        .add_revoked_certificate(entry)
        .sign(signer, hashes.SHA256())
    )


def certified(*chain: x509.Certificate, name: str = "line-4") -> Plant:
    """A chain whose identity has these certificates, leaf first."""
    pem = GATEWAY.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pems = b"".join(each.public_bytes(PEM) for each in chain)
    return start(name, identity=IdentityKey.load(pem, MemoryCounter(), certificates=pems))
