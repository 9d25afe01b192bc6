"""Whether the certificate that a server shows is to be trusted (OPC 10000-4 6.1.3); all of it reads files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import (
    LONGEST_CHAIN,
    BadCertificate,
    application_uris,
    check_path_length,
    check_server_usage,
    check_strength,
    check_validity,
    fingerprint,
    hosts,
    in_pairs,
    issued_by,
    issuer_name,
    names_host,
    parse_chain,
    subject,
)
from drivers.opcua.trust import TrustList

_MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


class Untrusted(Exception):
    """A server's certificate was refused; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What a server's certificate has to fit: a trust list, the application that it is for, the host in the URL."""

    trust: TrustList
    application_uri: str
    host: str
    host_check: str
    now: datetime

    def judge(self, data: bytes) -> x509.Certificate:
        """The certificate that a server shows, if it is trusted.

        Raises:
            Untrusted: it is not; the sentence says why, and what to do.
        """
        try:
            chain = parse_chain(data)
        except BadCertificate as error:
            raise Untrusted(f"the server shows something else than a certificate: {error}") from error
        whose = f"the server's certificate ({subject(chain[0])})"
        try:
            self._check(chain)
        except BadCertificate as error:
            raise Untrusted(f"{whose} {error}") from error
        except _MALFORMED as error:
            raise Untrusted(f"{whose} cannot be understood: {error}") from error
        return chain[0]

    def _check(self, chain: list[x509.Certificate]) -> None:
        certificate = chain[0]
        trusted = {fingerprint(kept.certificate): kept.certificate for kept in self.trust.held("trusted")}
        issuers = [*trusted.values(), *(kept.certificate for kept in self.trust.held("issuers")), *chain[1:]]
        above = list(_chain_above(certificate, issuers))
        is_known = fingerprint(certificate) in trusted
        if not is_known and not any(fingerprint(issuer) in trusted for issuer in above):
            raise BadCertificate(f"{_stranger(certificate, above)}: {self._what_to_do(certificate)}")
        check_validity(certificate, self.now)
        check_strength(certificate)
        check_server_usage(certificate)
        for below, issuer in enumerate(above):
            _check_issuer(issuer, below, self.now)
        for one, signer in zip([certificate, *above], [*above, None], strict=True):
            self._check_revocation(one, signer)
        self._check_names(certificate, is_known=is_known)

    def _check_names(self, certificate: x509.Certificate, *, is_known: bool) -> None:
        if self.application_uri not in application_uris(certificate):
            says = ", ".join(application_uris(certificate)) or "nothing"
            raise BadCertificate(
                f"is for the application {says}, and the server calls itself {self.application_uri}; one of them is "
                "wrong"
            )
        is_for_host = self.host_check == "always" or (self.host_check == "issued" and not is_known)
        if is_for_host and not names_host(certificate, self.host):
            says = ", ".join(hosts(certificate)) or "no host"
            raise BadCertificate(
                f"is for {says}, not for {self.host}: write one of its names in url, have it made anew, "
                "or relax host_check where the way to the server is safe"
            )

    def _what_to_do(self, certificate: x509.Certificate) -> str:
        """How a person can trust it; it is kept for that."""
        what = fingerprint(certificate)[:16]
        try:
            self.trust.remember(certificate)
        except OSError as error:
            what = f"FILE (it could not be kept here: {error.strerror})"
        return (
            f"compare the fingerprint {in_pairs(fingerprint(certificate))} (SHA-256) with the one shown on the server, "
            f"then: tidegate keys opcua trust {self.trust.directory} {what}"
        )

    def _check_revocation(self, certificate: x509.Certificate, signer: x509.Certificate | None) -> None:
        """Obey the lists of whoever issued it, `signer` if that is known here."""
        about = [(path, one) for path, one in self.trust.revocation_lists() if one.issuer == certificate.issuer]
        if not about or certificate.issuer == certificate.subject:
            return
        # An authority with a new key has lists of both keys.
        signed = [one for _, one in about if signer is not None and _is_signed(one, signer)]
        if not signed:
            who = issuer_name(certificate)
            raise BadCertificate(f"cannot be checked: {about[0][0]} is not signed by {who}, as far as is known here")
        if any(one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None for one in signed):
            raise BadCertificate(f"was revoked by {issuer_name(certificate)}: the server needs a new one")
        ends = [one.next_update_utc for one in signed]
        if all(end is not None and end < self.now for end in ends):
            end = max(end for end in ends if end is not None)
            raise BadCertificate(
                f"may have been revoked: the list of {issuer_name(certificate)} in {self.trust.directory}/crl ran out "
                f"on {end:%Y-%m-%d}; put a new one there"
            )


def _is_signed(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, rsa.RSAPublicKey) and revoked.is_signature_valid(key)


def _chain_above(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """The issuer, its issuer and so on, as far as they are known."""
    for _ in range(LONGEST_CHAIN):
        if certificate.issuer == certificate.subject:
            return
        found = next((issuer for issuer in issuers if issued_by(certificate, issuer)), None)
        if found is None:
            return
        yield found
        certificate = found


def _stranger(certificate: x509.Certificate, above: Sequence[x509.Certificate]) -> str:
    if above:
        return f"is issued by {subject(above[-1])}, whom nobody trusts here"
    if certificate.issuer == certificate.subject:
        return "is self-signed and not trusted"
    issuer = certificate.issuer.rfc4514_string()[:100]
    return f"is issued by {issuer}, who is not known here, and it is not trusted itself"


def _check_issuer(issuer: x509.Certificate, below: int, now: datetime) -> None:
    """`below` is how many authorities there are between it and the server."""
    try:
        check_validity(issuer, now)
        check_strength(issuer)
        check_path_length(issuer, below)
    except BadCertificate as error:
        raise BadCertificate(f"is issued by {subject(issuer)}, whose own certificate {error}") from error
