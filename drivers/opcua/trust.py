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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import (
    Application,
    BadCertificate,
    application_uris,
    check_validity,
    der,
    fingerprint,
    key_pem,
    load_key,
    new_key,
    parse_chain,
    read_bounded,
    self_signed,
    signing_request,
)

REJECTED_FILES = 32
CERTIFICATE_BYTES = 16_384
_CRL_BYTES = 4 * 2**20
_FILES = 1000
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Own:
    """Our application certificate."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)
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
        return signing_request(application, self._own_key())

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
        _keep(path, der(certificate))
        self._place("rejected", certificate).unlink(missing_ok=True)
        return path

    def reject(self, certificate: x509.Certificate) -> list[Path]:
        """Trust a certificate no longer, under whatever names it is kept; those are told."""
        wanted = fingerprint(certificate)
        kept = [one for folder in ("trusted", "issuers") for one in self.held(folder)]
        paths = [one.path for one in kept if fingerprint(one.certificate) == wanted]
        for path in paths:
            path.unlink(missing_ok=True)
        self.remember(certificate)
        return paths

    def remember(self, certificate: x509.Certificate) -> None:
        """Keep a certificate that nobody trusts, so that it can be trusted by command; the oldest make room."""
        self._make_folders()
        path, data = self._place("rejected", certificate), der(certificate)
        if len(data) > CERTIFICATE_BYTES or path.exists():
            return
        others = sorted(self._files("rejected"), key=_age)
        for oldest in others[: max(0, len(others) - REJECTED_FILES + 1)]:
            oldest.unlink(missing_ok=True)
        _keep(path, data)

    def revocation_lists(self) -> Iterator[tuple[Path, x509.CertificateRevocationList]]:
        """Those in crl/. Raises BadCertificate over a file that is none: it may be the one that counts."""
        for path in self._files("crl"):
            try:
                data = read_bounded(path, _CRL_BYTES)
                is_text = data.lstrip().startswith(b"-----BEGIN")
                yield path, x509.load_pem_x509_crl(data) if is_text else x509.load_der_x509_crl(data)
            except (BadCertificate, ValueError, OSError) as error:
                raise BadCertificate(f"cannot be checked: {path} is no revocation list ({error})") from error

    def _own_key(self) -> rsa.RSAPrivateKey:
        """Our key, if nobody else can read it. Raises BadCertificate."""
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


def _keep_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _keep(path: Path, data: bytes) -> None:
    """Put a whole file where it is read from, in place of whatever is there, be it a link to somewhere else."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
    part.unlink(missing_ok=True)
    _keep_new(part, data, 0o644)
    part.replace(path)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def utc(now_ns: int) -> datetime:
    """A clock's UTC as certificates have it."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC)
