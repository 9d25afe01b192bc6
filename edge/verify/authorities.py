"""Certification authorities: for which gateway a certificate vouches, and when it was revoked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.seal.keys import PublicKey
from edge.seal.record import ISSUER_PREFIX, Malformed

EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)

# What the library raises for certificates that are not well formed; anybody can put one into an EPOCH.
UNUSABLE = (
    ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, Malformed,
    x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_FOR_TLS = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH})


class Authorities:
    """Trusted authorities, each for every gateway or bound to one, and revocation lists."""

    def __init__(self) -> None:
        self._anchors: list[tuple[x509.Certificate, str | None]] = []
        self._lists: list[x509.CertificateRevocationList] = []
        self._revoked: dict[tuple[bytes, ...], int | None] = {}

    @property
    def revocation_lists(self) -> int:
        """Number of revocation lists."""
        return len(self._lists)

    def add(self, authority: x509.Certificate, issuer: str | None) -> None:
        """Trust an authority, for one issuer or for those that its certificates name by URI."""
        self._anchors.append((authority, issuer))

    def anchors(self) -> Iterator[tuple[x509.Certificate, str | None] | x509.CertificateRevocationList]:
        """Each authority with the issuer that it is bound to, and each revocation list."""
        yield from self._anchors
        yield from self._lists

    def add_lists(self, data: bytes) -> None:
        """Add revocation lists, in PEM or one in DER. Raises what is in `UNUSABLE`."""
        found = [x509.load_pem_x509_crl(pem) for pem in _LIST.findall(data)] or [x509.load_der_x509_crl(data)]
        for each in found:
            list(each)  # A damaged entry is found here, not with a record.
        self._lists += found

    def may_vouch_for(self, issuer: str) -> bool:
        """Whether a certificate can be for this issuer."""
        return any(bound_to in (None, issuer) for _, bound_to in self._anchors)

    def is_bound(self, issuer: str) -> bool:
        """Whether an authority is trusted for this issuer and no other."""
        return any(bound_to == issuer for _, bound_to in self._anchors)

    def refusal(self, certificates: Sequence[bytes], issuer: str, utc_ns: int) -> str:
        """Why a chain of certificates, leaf first, does not vouch for an issuer at a time; empty when it does."""
        at = EPOCH_START + timedelta(microseconds=utc_ns // 1000)
        anchors = [anchor for anchor, bound_to in self._anchors if bound_to in (None, issuer)]
        bound = [anchor for anchor, bound_to in self._anchors if bound_to == issuer]
        try:
            chain = [x509.load_der_x509_certificate(each) for each in certificates]
            if not chain or (not (uris := uris_of(chain[0])) and not _has_common_name(chain[0], issuer)):
                return f"its certificate is not for {issuer}"
            if uris and issuer not in uris:
                return f"its certificate is not for {issuer}"
            if is_for_tls_only(chain[0]):
                return "its certificate is for TLS connections only, by its extended key usage"
            for certificate, above in pairwise(chain):
                certificate.verify_directly_issued_by(above)
            trusted = [anchor for anchor in (anchors if uris else bound) if _has_issued(anchor, chain[-1])]
            if not trusted:
                return _why_none(issuer, is_by_name=not uris and any(_has_issued(each, chain[-1]) for each in anchors))
            if not all(_is_authority(each) for each in [*chain[1:], trusted[0]]):
                return "its certificate was issued by one that is no authority"
            is_valid = all(each.not_valid_before_utc <= at <= each.not_valid_after_utc for each in [*chain, trusted[0]])
        except UNUSABLE:
            return "its certificates do not form a chain"
        return "" if is_valid else f"its certificate was not valid at {at:%Y-%m-%dT%H:%M:%SZ}, the time of the record"

    def revoked_ns(self, certificates: tuple[bytes, ...]) -> int | None:
        """UTC since when one of these certificates is revoked; None when none is. They vouched for an issuer before."""
        if not self._lists or not certificates:
            return None
        if certificates not in self._revoked:
            self._revoked[certificates] = self._revocation(certificates)
        return self._revoked[certificates]

    def _revocation(self, certificates: Iterable[bytes]) -> int | None:
        chain = [x509.load_der_x509_certificate(each) for each in certificates]
        above = [(chain[-1], anchor) for anchor, _ in self._anchors if _has_issued(anchor, chain[-1])]
        found = []
        for certificate, authority in [*pairwise(chain), *above]:
            for each in self._lists:
                entry = each.get_revoked_certificate_by_serial_number(certificate.serial_number)
                if entry is not None and each.issuer == authority.subject and _is_signed(each, authority):
                    found.append(entry.revocation_date_utc)
        return (min(found) - EPOCH_START) // timedelta(microseconds=1) * 1000 if found else None


def refusal_of_pem(chain: bytes, authority: bytes, issuer: str) -> str:
    """Why verifiers with this authority would refuse a chain in PEM, leaf first, now; empty where they would not."""
    authorities = Authorities()
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        for each in x509.load_pem_x509_certificates(authority):
            authorities.add(each, None)
    except ValueError as error:
        return f"it, or the file of the authority, is not PEM: {error}"
    now_ns = int(datetime.now(UTC).timestamp()) * 10**9
    return authorities.refusal([each.public_bytes(Encoding.DER) for each in certificates], issuer, now_ns)


def leaf_key(certificates: Sequence[bytes]) -> PublicKey | None:
    """The key that the first certificate is for."""
    try:
        return PublicKey.of(x509.load_der_x509_certificate(certificates[0]).public_key()) if certificates else None
    except UNUSABLE:
        return None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate is that of an authority."""
    try:
        return _is_authority(certificate)
    except UNUSABLE:
        return False


def _why_none(issuer: str, *, is_by_name: bool) -> str:
    name = issuer.removeprefix(ISSUER_PREFIX)
    if is_by_name:
        return f"its certificate lacks the URI {issuer}, and a common name counts only with trust in {name}=FILE"
    return "its certificate comes from no trusted authority"


def _has_issued(anchor: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(anchor)
    except UNUSABLE:
        return False
    return True


def _is_signed(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except UNUSABLE:
        return False


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URIs that a certificate names as its subject."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _has_common_name(certificate: x509.Certificate, issuer: str) -> bool:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return any(ISSUER_PREFIX + str(each.value) == issuer for each in names)


def is_for_tls_only(certificate: x509.Certificate) -> bool:
    """Whether it was issued for connections: such a certificate lies where the network is, not where readings are."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return set(usages) <= _FOR_TLS
