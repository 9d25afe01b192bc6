"""Keys, certificates and revocation lists as people compare them: kind, name, fingerprint and validity.

A fingerprint is SHA-256 in groups of four digits: of a key as reports have it, of a certificate of its bytes. The first
four groups of a key's are what its records name it by. Of a private key only the public half is ever looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from edge.seal.keys import PublicKey
from edge.seal.record import ISSUER_PREFIX, RELAY_PREFIX
from edge.units import format_utc
from edge.verify.authorities import EPOCH_START, UNUSABLE, is_authority, is_for_tls_only, uris_of

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_RETIRED = re.compile(rb"(?im)^\s*retired\s*:\s*(\S+T\S+)")
_SUBJECT = re.compile(rb"(?im)^\s*subject\s*:\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A key, a certificate or a revocation list.

    Attributes:
        kind: identity, relay, CA, certificate, TLS certificate, revocation list, private key.
        name: whom it is for, or who issued it.
        gateway: the only gateway that it counts for; empty where that is not said.
        fingerprint: of the key; empty where it is not P-256 or Ed25519, and of a revocation list.
        certificate: the fingerprint of the certificate; empty for a key.
        from_ns: UTC from which to which it is valid; None for a key, which has no end of its own.
        note: one sentence more.
    """

    kind: str
    name: str = ""
    gateway: str = ""
    fingerprint: str = ""
    certificate: str = ""
    from_ns: int | None = None
    to_ns: int | None = None
    note: str = ""


def grouped(digest: bytes) -> str:
    """A digest for people to compare."""
    digits = digest.hex()
    return ":".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def of_key(key: PublicKey, issuer: str = "", retired_ns: int | None = None) -> Anchor:
    """A public key, the gateway or relay that it is bound to, and from when it counts no longer."""
    if issuer.startswith(RELAY_PREFIX):
        return Anchor(kind="relay", name=issuer.removeprefix(RELAY_PREFIX), fingerprint=key.fingerprint)
    name = issuer.removeprefix(ISSUER_PREFIX)
    note = "" if retired_ns is None else f"retired: what arrives from {format_utc(retired_ns)} on is refused"
    return Anchor(kind="identity", name=name, gateway=name, fingerprint=key.fingerprint, note=note)


def of_certificate(certificate: x509.Certificate, issuer: str | None = None) -> Anchor:
    """A certificate, and the gateway that it is bound to."""
    try:
        fingerprint = PublicKey.of(certificate.public_key()).fingerprint
    except UNUSABLE:
        fingerprint = ""
    try:
        uris, is_tls = uris_of(certificate), is_for_tls_only(certificate)
    except UNUSABLE:
        uris, is_tls = [], False
    own = next((uri.removeprefix(ISSUER_PREFIX) for uri in uris if uri.startswith(ISSUER_PREFIX)), "")
    kind = "CA" if is_authority(certificate) else "TLS certificate" if is_tls else "identity" if own else "certificate"
    bound = (issuer or "").removeprefix(ISSUER_PREFIX)
    return Anchor(
        kind=kind, name=_name(certificate.subject), gateway=bound or (own if kind == "identity" else ""),
        fingerprint=fingerprint, certificate=grouped(certificate.fingerprint(hashes.SHA256())),
        from_ns=_ns(certificate.not_valid_before_utc), to_ns=_ns(certificate.not_valid_after_utc),
        note=f"issued by {_name(certificate.issuer)}" if certificate.issuer != certificate.subject else "",
    )  # fmt: skip


def of_list(revoked: x509.CertificateRevocationList) -> Anchor:
    """A revocation list."""
    end = revoked.next_update_utc
    count = len(revoked)
    return Anchor(
        kind="revocation list", name=_name(revoked.issuer), from_ns=_ns(revoked.last_update_utc),
        to_ns=None if end is None else _ns(end), note=f"{count} certificate{'s' * (count != 1)} revoked",
    )  # fmt: skip


def anchors_in(data: bytes, gateway: str | None = None) -> Iterator[Anchor]:
    """Everything in a file in PEM, or the one certificate or revocation list in DER; what it cannot read is named."""
    issuer = None if gateway is None else ISSUER_PREFIX + gateway
    end = 0
    for match in _PEM.finditer(data):
        above, end = data[end : match.start()], match.end()
        label = match[1].decode()
        named = _SUBJECT.search(above)
        try:
            name = issuer or (named[1].decode("utf-8", "replace") if named else None)
            yield _of_block(label, match[0], name, _retired_ns(above))
        except UNUSABLE as error:
            yield Anchor(kind=label.lower(), note=f"cannot be read: {error or type(error).__name__}")
    if not end and data.startswith(b"\x30"):
        yield from _of_der(data, issuer)


def _of_block(label: str, block: bytes, issuer: str | None, retired_ns: int | None = None) -> Anchor:
    if label == "CERTIFICATE":
        return of_certificate(x509.load_pem_x509_certificate(block), issuer)
    if label == "X509 CRL":
        return of_list(x509.load_pem_x509_crl(block))
    if label == "PUBLIC KEY":
        return of_key(PublicKey.of(serialization.load_pem_public_key(block)), issuer or "", retired_ns)
    if "ENCRYPTED" in label or b"ENCRYPTED" in block:
        return Anchor(kind="private key", note="encrypted; not looked at")
    public = serialization.load_pem_private_key(block, password=None).public_key()
    try:
        return Anchor(kind="private key", fingerprint=PublicKey.of(public).fingerprint, note="its public half is shown")
    except UNUSABLE:
        return Anchor(kind="private key", note="neither P-256 nor Ed25519: it cannot sign records")


def _retired_ns(above: bytes) -> int | None:
    retired = _RETIRED.search(above)
    return None if retired is None else _ns(datetime.fromisoformat(retired[1].decode()).astimezone(UTC))


def _of_der(data: bytes, issuer: str | None) -> Iterator[Anchor]:
    for load in (x509.load_der_x509_certificate, x509.load_der_x509_crl):
        with suppress(*UNUSABLE):
            found = load(data)
            yield of_list(found) if isinstance(found, x509.CertificateRevocationList) else of_certificate(found, issuer)
            return


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string() or "(without a name)"


def _ns(at: datetime) -> int:
    return int((at - EPOCH_START).total_seconds()) * 10**9
