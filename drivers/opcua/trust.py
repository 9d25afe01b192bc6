"""A directory of certificates: ours, those that we trust, and those that were refused and wait for a person.

own/cert.der own/key.pem   our application certificate and its key
trusted/                   servers' certificates, and authorities whose servers are all trusted
issuers/                   authorities that complete a chain and are trusted for nothing else
crl/                       revocation lists
rejected/                  what servers showed and nobody trusts yet
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import (
    Application,
    BadCertificate,
    application_uris,
    check_server_usage,
    check_strength,
    check_validity,
    der,
    fingerprint,
    hosts,
    in_pairs,
    issued_by,
    key_pem,
    load_key,
    names_host,
    new_key,
    parse_chain,
    read_bounded,
    self_signed,
    signing_request,
    subject,
)

REJECTED_FILES = 32
CERTIFICATE_BYTES = 16_384
_CRL_BYTES = 4 * 2**20
_FILES = 1000
_LONGEST_CHAIN = 5
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


_MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


class Untrusted(Exception):
    """A server's certificate was refused; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Own:
    """Our application certificate."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    uri: str


@dataclass(frozen=True, slots=True)
class Kept:
    """One certificate in the directory."""

    folder: str
    path: Path
    certificate: x509.Certificate


class TrustList:
    """One such directory; several devices may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def own(self, now: datetime) -> Own:
        """Our certificate and key. Raises BadCertificate with a sentence that says what to do."""
        try:
            certificate = parse_chain(read_bounded(self._own("cert.der"), CERTIFICATE_BYTES))[0]
            key = load_key(read_bounded(self._own("key.pem"), CERTIFICATE_BYTES))
        except OSError as error:
            make = f"make it with: tidegate keys opcua create {self.directory} --name NAME"
            raise BadCertificate(
                f"our certificate cannot be read ({error.filename}: {error.strerror}); {make}"
            ) from error
        except BadCertificate as error:
            raise BadCertificate(f"{self._own('')}: {error}") from error
        if key.public_key() != certificate.public_key():
            raise BadCertificate(f"own/cert.der and own/key.pem in {self.directory} do not belong together")
        uris = application_uris(certificate)
        if len(uris) != 1:
            raise BadCertificate(f"{self._own('cert.der')} has {len(uris)} application URIs and needs one")
        try:
            check_validity(certificate, now)
        except BadCertificate as error:
            raise BadCertificate(
                f"our certificate {self._own('cert.der')} {error}; make a new one, and trust it on the server"
            ) from error
        return Own(certificate, key, uris[0])

    def create(self, application: Application, now: datetime, *, days: int, bits: int) -> x509.Certificate:
        """Make our key and certificate, and the folders. Raises FileExistsError where there is a key already."""
        self._make_folders()
        key = new_key(bits)
        _keep_new(self._own("key.pem"), key_pem(key), 0o600)
        certificate = self_signed(application, key, now, days)
        _keep_new(self._own("cert.der"), der(certificate), 0o644)
        return certificate

    def request(self, application: Application, *, bits: int) -> bytes:
        """A request for a certification authority, with our key, which is made where there is none."""
        self._make_folders()
        if not self._own("key.pem").exists():
            _keep_new(self._own("key.pem"), key_pem(new_key(bits)), 0o600)
        return signing_request(application, load_key(read_bounded(self._own("key.pem"), CERTIFICATE_BYTES)))

    def held(self, folder: str) -> Iterator[Kept]:
        """The certificates in one folder; a file that holds none is passed over."""
        for path in self._files(folder):
            try:
                chain = parse_chain(read_bounded(path, CERTIFICATE_BYTES))
            except (BadCertificate, OSError):
                continue
            yield Kept(folder, path, chain[0])

    def find(self, text: str, folders: Sequence[str]) -> list[Kept]:
        """The certificates with a fingerprint, or with one that begins so."""
        wanted = text.replace(":", "").replace(" ", "").lower()
        if not _FINGERPRINT.fullmatch(wanted):
            raise BadCertificate(f"{text!r} is no fingerprint: write at least 8 of its hexadecimal digits")
        kept = (kept for folder in folders for kept in self.held(folder))
        return [one for one in kept if fingerprint(one.certificate).startswith(wanted)]

    def trust(self, certificate: x509.Certificate, folder: str = "trusted") -> Path:
        """Trust a certificate from now on."""
        self._make_folders()
        path = self._place(folder, certificate)
        path.write_bytes(der(certificate))
        self._place("rejected", certificate).unlink(missing_ok=True)
        return path

    def reject(self, kept: Kept) -> None:
        """Trust a certificate no longer."""
        kept.path.unlink(missing_ok=True)
        self.remember(kept.certificate)

    def remember(self, certificate: x509.Certificate) -> None:
        """Keep a certificate that nobody trusts, so that it can be trusted by command; the oldest make room."""
        self._make_folders()
        path, data = self._place("rejected", certificate), der(certificate)
        if len(data) > CERTIFICATE_BYTES or path.exists():
            return
        others = sorted(self._files("rejected"), key=_age)
        for oldest in others[: max(0, len(others) - REJECTED_FILES + 1)]:
            oldest.unlink(missing_ok=True)
        path.write_bytes(data)

    def judge(self, data: bytes, uri: str, host: str, host_check: str, now: datetime) -> x509.Certificate:
        """The certificate of a server, if it is trusted for this application on this host (OPC 10000-4 6.1.3).

        Raises:
            Untrusted: it is not; the sentence says why, and what to do.
        """
        try:
            chain = parse_chain(data)
        except BadCertificate as error:
            raise Untrusted(f"the server shows something else than a certificate: {error}") from error
        certificate = chain[0]
        try:
            self._judge(chain, uri, host, host_check, now)
        except BadCertificate as error:
            raise Untrusted(f"the server's certificate ({subject(certificate)}) {error}") from error
        except _MALFORMED as error:
            raise Untrusted(
                f"the server's certificate ({subject(certificate)}) cannot be understood: {error}"
            ) from error
        return certificate

    def _judge(self, chain: list[x509.Certificate], uri: str, host: str, host_check: str, now: datetime) -> None:
        certificate = chain[0]
        trusted = {fingerprint(kept.certificate): kept.certificate for kept in self.held("trusted")}
        issuers = [*trusted.values(), *(kept.certificate for kept in self.held("issuers")), *chain[1:]]
        above = list(_chain_above(certificate, issuers))
        is_known = fingerprint(certificate) in trusted
        if not is_known and not any(fingerprint(issuer) in trusted for issuer in above):
            raise BadCertificate(f"{_stranger(certificate, above)}: {self._what_to_do(certificate)}")
        check_validity(certificate, now)
        check_strength(certificate)
        check_server_usage(certificate)
        for issuer in above:
            _check_issuer(issuer, now)
        for one, issuer in zip([certificate, *above], above, strict=False):
            self._check_revocation(one, issuer, now)
        if uri not in application_uris(certificate):
            says = ", ".join(application_uris(certificate)) or "nothing"
            raise BadCertificate(
                f"is for the application {says}, and the server calls itself {uri}; one of them is wrong"
            )
        if (host_check == "always" or (host_check == "issued" and not is_known)) and not names_host(certificate, host):
            says = ", ".join(hosts(certificate)) or "no host"
            raise BadCertificate(
                f"is for {says}, not for {host}: write one of its names in url, have it made anew, "
                "or relax host_check where the way to the server is safe"
            )

    def _what_to_do(self, certificate: x509.Certificate) -> str:
        """How a person can trust it; it is kept for that."""
        what = fingerprint(certificate)[:16]
        try:
            self.remember(certificate)
        except OSError as error:
            what = f"FILE (it could not be kept here: {error.strerror})"
        return (
            f"compare the fingerprint {in_pairs(fingerprint(certificate))} (SHA-256) with the one shown on the server, "
            f"then: tidegate keys opcua trust {self.directory} {what}"
        )

    def _check_revocation(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        for revoked in self._lists_of(issuer):
            if revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                raise BadCertificate(f"was revoked by {subject(issuer)}: the server needs a new one")
            end = revoked.next_update_utc
            if end is not None and end < now:
                raise BadCertificate(
                    f"may have been revoked: the list of {subject(issuer)} in {self.directory}/crl ran out on "
                    f"{end:%Y-%m-%d}; put a new one there"
                )

    def _lists_of(self, issuer: x509.Certificate) -> Iterator[x509.CertificateRevocationList]:
        key = issuer.public_key()
        for path in self._files("crl"):
            try:
                data = read_bounded(path, _CRL_BYTES)
                is_text = data.lstrip().startswith(b"-----BEGIN")
                revoked = x509.load_pem_x509_crl(data) if is_text else x509.load_der_x509_crl(data)
            except (BadCertificate, ValueError, OSError) as error:
                raise BadCertificate(f"cannot be checked: {path} is no revocation list ({error})") from error
            if revoked.issuer == issuer.subject and isinstance(key, rsa.RSAPublicKey):
                if not revoked.is_signature_valid(key):
                    raise BadCertificate(f"cannot be checked: {path} is not signed by {subject(issuer)}")
                yield revoked

    def _own(self, name: str) -> Path:
        return self.directory / "own" / name

    def _place(self, folder: str, certificate: x509.Certificate) -> Path:
        return self.directory / folder / f"{fingerprint(certificate)}.der"

    def _files(self, folder: str) -> list[Path]:
        try:
            entries = sorted((self.directory / folder).iterdir())
        except FileNotFoundError:
            return []
        return [path for path in entries if path.is_file() and not path.name.startswith(".")][:_FILES]

    def _make_folders(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for folder in ("own", "trusted", "issuers", "crl", "rejected"):
            (self.directory / folder).mkdir(exist_ok=True, mode=0o700 if folder == "own" else 0o755)


def _chain_above(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """The issuer, its issuer and so on, as far as they are known."""
    for _ in range(_LONGEST_CHAIN):
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


def _check_issuer(issuer: x509.Certificate, now: datetime) -> None:
    try:
        check_validity(issuer, now)
        check_strength(issuer)
    except BadCertificate as error:
        raise BadCertificate(f"is issued by {subject(issuer)}, whose own certificate {error}") from error


def _keep_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def utc(now_ns: int) -> datetime:
    """A clock's UTC as certificates have it."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC)
