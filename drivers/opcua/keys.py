"""`tidegate keys opcua`: our application certificate, and whose certificates we trust."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from drivers.opcua.certificates import (
    WITHOUT_KEY_CERT_SIGN,
    Application,
    BadCertificate,
    application_uris,
    fingerprint,
    hosts,
    in_pairs,
    lacks_key_cert_sign,
    parse,
    read_bounded,
    sha1_fingerprint,
    subject,
)
from drivers.opcua.trust import CERTIFICATE_BYTES, StoredCertificate, TrustList
from edge.errors import ConfigError

_FOLDERS = ("own", "trusted", "issuers", "rejected")
_SHOWN_DIGITS = 16

_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
EXAMPLE = """\b
Examples:
  tidegate keys opcua create /etc/tidegate/opcua --name line-4
  tidegate keys opcua list /etc/tidegate/opcua
  tidegate keys opcua trust /etc/tidegate/opcua 3f9a61c0
"""


class _No(click.ClickException):
    """The answer is no: printed as a sentence, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file=file, err=file is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAnswer:
    """A certificate that is kept."""

    folder: str
    file: str
    subject: str
    application_uris: tuple[str, ...]
    hosts: tuple[str, ...]
    from_ns: int
    to_ns: int
    sha256: str
    sha1: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesAnswer:
    """All certificates that are kept."""

    certificates: tuple[CertificateAnswer, ...]


ANSWERS = {
    "create": CertificateAnswer, "show": CertificateAnswer, "list": CertificatesAnswer, "trust": CertificateAnswer,
    "reject": CertificateAnswer,
}  # fmt: skip
"""What the commands print with --json."""


class _Directory(click.Group):
    """Adds a remedy to errors about a directory of another user."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PermissionError as error:
            place = Path(error.filename).parent
            raise ConfigError(
                f"{place}: {error.strerror}; run this as the user that the gateway runs as, or see to owner and mode"
            ) from error


@click.group(cls=_Directory, epilog=EXAMPLE)
def command() -> None:
    """Certificates for OPC UA, in the directory that a device names in `certificates`."""


@command.command(
    epilog="""\b
Examples:
  tidegate keys opcua create pki --name line-4 --host gateway-4.example --host 192.0.2.4
  tidegate keys opcua create pki --name line-4 --request > line-4.csr

With --request, put the certificate that the authority makes of it into DIR/own/cert.der, as PEM or DER."""
)
@_DIRECTORY
@click.option("--name", required=True, help="Name of this gateway; it becomes a part of the application URI.")
@click.option("--host", "names", multiple=True,
              help="Name or address of this machine, by default its own name; may be repeated.")  # fmt: skip
@click.option("--organization", default="", help="Organization that the certificate names.")
@click.option("--days", type=click.IntRange(1, 36500), default=1825, show_default=True, help="How long it is valid.")
@click.option("--bits", type=click.Choice(["2048", "3072", "4096"]), default="2048", show_default=True,
              help="Length of the key; some old servers take 2048 only.")  # fmt: skip
@click.option("--request", "wants_request", is_flag=True,
              help="Print a request for a certification authority instead of signing ourselves.")  # fmt: skip
@_JSON
def create(
    directory: Path, name: str, names: Sequence[str], organization: str, days: int, bits: str, *, wants_request: bool,
    as_json: bool,
) -> CertificateAnswer | None:  # fmt: skip
    """Make a key and an application certificate; what is there is never overwritten."""
    known = tuple(names) or (socket.gethostname(),)
    application, trust = Application(name, known[0], known, organization), TrustList(directory)
    try:
        if wants_request:
            click.echo(trust.request(application, bits=int(bits)).decode(), nl=False)
            return None
        certificate = trust.create(application, datetime.now(UTC), days=days, bits=int(bits))
    except FileExistsError as error:
        raise _No(f"{error.filename} is there already: it is not overwritten, as servers may trust it") from error
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory}: {error}") from error
    return _tell(StoredCertificate("own", directory / "own" / "cert.der", certificate), as_json=as_json)


@command.command(
    epilog="""\b
Examples:
  tidegate keys opcua show pki
  tidegate keys opcua show pki 3f9a61c0"""
)
@_DIRECTORY
@click.argument("text", metavar="[FINGERPRINT]", required=False)
@_JSON
def show(directory: Path, text: str | None, *, as_json: bool) -> CertificateAnswer | None:
    """Show our certificate, or another one, with the fingerprints to compare on the server."""
    trust = TrustList(directory)
    if text is not None:
        return _tell(_one(trust, text, _FOLDERS), as_json=as_json)
    own = next(trust.certificates_in("own"), None)
    if own is None:
        raise _No(f"{directory} has no certificate of ours: tidegate keys opcua create {directory} --name NAME")
    return _tell(own, as_json=as_json)


@command.command("list", epilog="""\b
Example:
  tidegate keys opcua list pki --json""")  # fmt: skip
@_DIRECTORY
@_JSON
def list_(directory: Path, *, as_json: bool) -> CertificatesAnswer | None:
    """List every certificate in DIR, and until when it is valid."""
    trust = TrustList(directory)
    found = [kept for folder in _FOLDERS for kept in trust.certificates_in(folder)]
    if as_json:
        return CertificatesAnswer(certificates=tuple(map(_answer, found)))
    for kept in found:
        end = _end(kept)
        click.echo(
            f"{kept.folder:8}  {fingerprint(kept.certificate)[:_SHOWN_DIGITS]}  {end}  {subject(kept.certificate)}"
        )
    if not found:
        click.echo(f"{directory} holds no certificate", err=True)
    return None


@command.command(
    epilog="""\b
Examples:
  tidegate keys opcua trust pki 3f9a61c0
  tidegate keys opcua trust pki server.der
  tidegate keys opcua trust pki intermediate.pem --issuer

Compare the fingerprint with the one shown on the server first. A certification authority in trusted/ lets in
every server that it issued a certificate to; with --issuer it only completes chains."""
)
@_DIRECTORY
@click.argument("what", metavar="FINGERPRINT|FILE")
@click.option("--issuer", "is_issuer", is_flag=True, help="Keep it to complete chains; trust nothing because of it.")
@_JSON
def trust(directory: Path, what: str, *, is_issuer: bool, as_json: bool) -> CertificateAnswer | None:
    """Trust a certificate that was rejected, or one in a file, from the next session on."""
    kept, folder = TrustList(directory), "issuers" if is_issuer else "trusted"
    path = Path(what)
    if path.is_file():
        try:
            certificate = parse(read_bounded(path, CERTIFICATE_BYTES))
        except (BadCertificate, OSError) as error:
            raise click.UsageError(f"{path}: {error}") from error
    else:
        certificate = _one(kept, what, ("rejected", "issuers", "trusted")).certificate
    try:
        place = kept.trust(certificate, folder)
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    return _tell(StoredCertificate(folder, place, certificate), as_json=as_json)


@command.command(
    epilog="""\b
Example:
  tidegate keys opcua reject pki 3f9a61c0"""
)
@_DIRECTORY
@click.argument("text", metavar="FINGERPRINT")
@_JSON
def reject(directory: Path, text: str, *, as_json: bool) -> CertificateAnswer | None:
    """Trust a certificate no longer, from the next session on."""
    store = TrustList(directory)
    kept = _one(store, text, ("trusted", "issuers"))
    try:
        store.reject(kept.certificate)
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    return _tell(next(one for one in store.find(fingerprint(kept.certificate), ("rejected",))), as_json=as_json)


def _one(trust: TrustList, text: str, folders: Sequence[str]) -> StoredCertificate:
    try:
        found = trust.find(text, folders)
    except BadCertificate as error:
        raise click.UsageError(f"{error}, or the name of a file that is there") from error
    if len({fingerprint(kept.certificate) for kept in found}) == 1:
        return found[0]
    why = (
        "several certificates have such a fingerprint; write more of it"
        if found
        else "no certificate has that fingerprint"
    )
    raise _No(f"{trust.directory}: {why} (tidegate keys opcua list {trust.directory})")


def _tell(kept: StoredCertificate, *, as_json: bool) -> CertificateAnswer | None:
    """Print a certificate, or return it for `tidegate keys` to print as JSON."""
    about = _answer(kept)
    if as_json:
        return about
    rows = [
        ("certificate", about.subject),
        ("in", f"{kept.folder} ({kept.path})"),
        ("application", ", ".join(about.application_uris)),
        ("hosts", ", ".join(about.hosts)),
        ("valid", f"{kept.certificate.not_valid_before_utc:%Y-%m-%d} to {_end(kept)}"),
        ("SHA-256", in_pairs(about.sha256)),
        ("SHA-1", in_pairs(about.sha1)),
    ]
    if kept.folder == "own" and lacks_key_cert_sign(kept.certificate):
        rows.append(("note", f"{WITHOUT_KEY_CERT_SIGN} {kept.path.parent.parent} --name NAME"))
    for label, text in rows:
        click.echo(f"{label:12} {text}")
    return None


def _answer(kept: StoredCertificate) -> CertificateAnswer:
    certificate = kept.certificate
    return CertificateAnswer(
        folder=kept.folder, file=str(kept.path), subject=subject(certificate),
        application_uris=tuple(application_uris(certificate)), hosts=tuple(hosts(certificate)),
        from_ns=int(certificate.not_valid_before_utc.timestamp()) * 10**9,
        to_ns=int(certificate.not_valid_after_utc.timestamp()) * 10**9,
        sha256=fingerprint(certificate), sha1=sha1_fingerprint(certificate),
    )  # fmt: skip


def _end(kept: StoredCertificate) -> str:
    end = kept.certificate.not_valid_after_utc
    return f"{end:%Y-%m-%d}" + (" (expired)" if end < datetime.now(UTC) else "")
