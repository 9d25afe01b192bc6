"""Which certificates are trusted (OPC 10000-4, 6.1.3), by a directory of them: ours, trusted ones and rejected ones.

own/cert.der own/key.pem   our application certificate and its key
trusted/                   servers' certificates, and authorities whose servers are all trusted
issuers/                   authorities that complete a chain and are trusted for nothing else
crl/                       revocation lists
rejected/                  certificates that servers showed and that are not trusted yet
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import (
    LONGEST_CHAIN,
    Application,
    BadCertificate,
    application_uris,
    check_path_length,
    check_server_usage,
    check_strength,
    check_validity,
    der,
    fingerprint,
    hosts,
    in_pairs,
    issued_by,
    issuer_name,
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
_SERVERS_TRIED = 3
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Our application certificate."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)
    uri: str


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """One certificate in the directory."""

    folder: str
    path: Path
    certificate: x509.Certificate


class TrustList:
    """A directory of certificates; several devices may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def own(self, now: datetime) -> OwnCertificate:
        """Our certificate and key. Raises BadCertificate with a sentence that says what to do."""
        try:
            certificate = parse_chain(read_bounded(self._own("cert.der"), CERTIFICATE_BYTES))[0]
            key = self._own_key()
        except PermissionError as error:
            raise BadCertificate(
                f"our certificate cannot be read ({error.filename}: {error.strerror}); see to its owner and mode: it "
                "belongs to the user that the gateway runs as"
            ) from error
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
        return OwnCertificate(certificate, key, uris[0])

    def create(self, application: Application, now: datetime, *, days: int, bits: int) -> x509.Certificate:
        """Make our key and certificate, and the folders. Raises FileExistsError where there is a key already."""
        self._make_folders()
        key = new_key(bits)
        _create_file(self._own("key.pem"), key_pem(key), 0o600)
        certificate = self_signed(application, key, now, days)
        _create_file(self._own("cert.der"), der(certificate), 0o644)
        return certificate

    def request(self, application: Application, *, bits: int) -> bytes:
        """A certificate signing request with our key, which is made where there is none."""
        self._make_folders()
        if not self._own("key.pem").exists():
            _create_file(self._own("key.pem"), key_pem(new_key(bits)), 0o600)
        return signing_request(application, self._own_key())

    def certificates_in(self, folder: str) -> Iterator[StoredCertificate]:
        """The certificates in one folder; a file that holds none is passed over."""
        for path in self._files(folder):
            try:
                chain = parse_chain(read_bounded(path, CERTIFICATE_BYTES))
            except (BadCertificate, OSError):
                continue
            yield StoredCertificate(folder, path, chain[0])

    def servers(self, host: str) -> list[x509.Certificate]:
        """The trusted certificates of servers, those for this host first."""
        trusted = [kept.certificate for kept in self.certificates_in("trusted")]
        mine = [one for one in trusted if application_uris(one)]
        return sorted(mine, key=lambda one: not names_host(one, host))[:_SERVERS_TRIED]

    def find(self, text: str, folders: Sequence[str]) -> list[StoredCertificate]:
        """The certificates with a fingerprint, or with one that begins so."""
        wanted = text.replace(":", "").replace(" ", "").lower()
        if not _FINGERPRINT.fullmatch(wanted):
            raise BadCertificate(f"{text!r} is no fingerprint: write at least 8 of its hexadecimal digits")
        kept = (kept for folder in folders for kept in self.certificates_in(folder))
        return [one for one in kept if fingerprint(one.certificate).startswith(wanted)]

    def trust(self, certificate: x509.Certificate, folder: str = "trusted") -> Path:
        """Trust a certificate from now on."""
        self._make_folders()
        path = self._place(folder, certificate)
        _replace_file(path, der(certificate))
        self._place("rejected", certificate).unlink(missing_ok=True)
        return path

    def reject(self, certificate: x509.Certificate) -> list[Path]:
        """Trust a certificate no longer; returns the files that were removed."""
        wanted = fingerprint(certificate)
        kept = [one for folder in ("trusted", "issuers") for one in self.certificates_in(folder)]
        paths = [one.path for one in kept if fingerprint(one.certificate) == wanted]
        for path in paths:
            path.unlink(missing_ok=True)
        self.add_rejected(certificate)
        return paths

    def add_rejected(self, certificate: x509.Certificate) -> None:
        """Store an untrusted certificate in rejected/, so that a command can trust it; the oldest are removed."""
        self._make_folders()
        path, data = self._place("rejected", certificate), der(certificate)
        if len(data) > CERTIFICATE_BYTES or path.exists():
            return
        others = sorted(self._files("rejected"), key=_age)
        for oldest in others[: max(0, len(others) - REJECTED_FILES + 1)]:
            oldest.unlink(missing_ok=True)
        _replace_file(path, data)

    def revocation_lists(self) -> Iterator[tuple[Path, x509.CertificateRevocationList]]:
        """The lists in crl/. Raises BadCertificate over a file that is none: it may hold the one that matters."""
        for path in self._files("crl"):
            try:
                data = read_bounded(path, _CRL_BYTES)
                is_text = data.lstrip().startswith(b"-----BEGIN")
                yield path, x509.load_pem_x509_crl(data) if is_text else x509.load_der_x509_crl(data)
            except (BadCertificate, ValueError, OSError) as error:
                raise BadCertificate(f"cannot be checked: {path} is no revocation list ({error})") from error

    def _own_key(self) -> rsa.RSAPrivateKey:
        """Our key. Raises BadCertificate, also where others can read its file."""
        path = self._own("key.pem")
        mode = path.stat().st_mode
        if mode & 0o077:
            raise BadCertificate(f"{path.name} can be read by others (mode {mode & 0o777:04o}); chmod 600 {path}")
        return load_key(read_bounded(path, CERTIFICATE_BYTES))

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


def _create_file(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically; a link is replaced, not followed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
    part.unlink(missing_ok=True)
    _create_file(part, data, 0o644)
    part.replace(path)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def utc(now_ns: int) -> datetime:
    """A clock's UTC as certificates have it."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC)


_MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


class Untrusted(Exception):
    """A server's certificate is not trusted; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class CertificateValidator:
    """Validates a server's certificate against a trust list, an application URI and the host in the URL."""

    trust: TrustList
    application_uri: str
    host: str
    host_check: str
    now: datetime

    def validate(self, data: bytes) -> x509.Certificate:
        """The certificate that a server shows, if it is trusted. Reads files: not for the event loop.

        Raises:
            Untrusted: it is not; the sentence says why and what to do.
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
        trusted = {fingerprint(kept.certificate): kept.certificate for kept in self.trust.certificates_in("trusted")}
        issuers = [*trusted.values(), *(kept.certificate for kept in self.trust.certificates_in("issuers")), *chain[1:]]
        above = list(_chain_above(certificate, issuers))
        is_known = fingerprint(certificate) in trusted
        # First what trust does not mend.
        check_validity(certificate, self.now)
        check_strength(certificate)
        check_server_usage(certificate)
        self._check_application(certificate)
        if not is_known and not any(fingerprint(issuer) in trusted for issuer in above):
            why = self._why_renewed(trusted.values()) or _why_untrusted(certificate, above)
            raise BadCertificate(f"{why}: {self._what_to_do(certificate)}")
        for below, issuer in enumerate(above):
            _check_issuer(issuer, below, self.now)
        for one, signer in zip([certificate, *above], [*above, None], strict=True):
            self._check_revocation(one, signer)
        self._check_host(certificate, is_known=is_known)

    def _why_renewed(self, trusted: Iterable[x509.Certificate]) -> str:
        """A sentence where another certificate of the application is trusted; else empty."""
        for known in trusted:
            if self.application_uri in application_uris(known):
                return (
                    f"is not the one of {self.application_uri} that is trusted ({fingerprint(known)[:16]}, valid until "
                    f"{known.not_valid_after_utc:%Y-%m-%d}): it was renewed, or somebody else shows it"
                )
        return ""

    def _check_application(self, certificate: x509.Certificate) -> None:
        if self.application_uri not in application_uris(certificate):
            says = ", ".join(application_uris(certificate)) or "nothing"
            raise BadCertificate(
                f"is for the application {says}, and the server calls itself {self.application_uri}; one of them is "
                "wrong: have it made anew, or accept it for this device with `certificate_uri`"
            )

    def _check_host(self, certificate: x509.Certificate, *, is_known: bool) -> None:
        is_for_host = self.host_check == "always" or (self.host_check == "issued" and not is_known)
        if is_for_host and not names_host(certificate, self.host):
            says = ", ".join(hosts(certificate)) or "no host"
            raise BadCertificate(
                f"is for {says}, not for {self.host}: write one of its names in url, have it made anew, "
                "or relax host_check where the way to the server is safe"
            )

    def _what_to_do(self, certificate: x509.Certificate) -> str:
        """How to trust it; it is stored in rejected/ for that."""
        what = fingerprint(certificate)[:16]
        try:
            self.trust.add_rejected(certificate)
        except OSError as error:
            what = f"FILE (it could not be kept here: {error.strerror})"
        return (
            f"compare the fingerprint {in_pairs(fingerprint(certificate))} (SHA-256) with the one shown on the server, "
            f"then: tidegate keys opcua trust {self.trust.directory} {what}"
        )

    def _check_revocation(self, certificate: x509.Certificate, signer: x509.Certificate | None) -> None:
        """Check the revocation lists of its issuer; `signer` is the issuer's certificate, if it is known."""
        about = [(path, one) for path, one in self.trust.revocation_lists() if one.issuer == certificate.issuer]
        if not about or certificate.issuer == certificate.subject:
            return
        # An authority that renewed its key has a list for each key.
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


def _why_untrusted(certificate: x509.Certificate, above: Sequence[x509.Certificate]) -> str:
    if above:
        return f"is issued by {subject(above[-1])}, whom nobody trusts here"
    if certificate.issuer == certificate.subject:
        return "is self-signed and not trusted"
    issuer = certificate.issuer.rfc4514_string()[:100]
    return f"is issued by {issuer}, who is not known here, and it is not trusted itself"


def _check_issuer(issuer: x509.Certificate, below: int, now: datetime) -> None:
    """Check an authority; `below` is the number of authorities between it and the server."""
    try:
        check_validity(issuer, now)
        check_strength(issuer)
        check_path_length(issuer, below)
    except BadCertificate as error:
        raise BadCertificate(f"is issued by {subject(issuer)}, whose own certificate {error}") from error
