"""`tidegate keys opcua`: our application certificate, and whose certificates we trust."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
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
_NO = 1
_SHOWN_DIGITS = 16

_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
EXAMPLE = """\b
Examples:
  tidegate keys opcua create /etc/tidegate/opcua --name line-4
  tidegate keys opcua list /etc/tidegate/opcua
  tidegate keys opcua trust /etc/tidegate/opcua 3f9a61c0
"""


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
) -> None:  # fmt: skip
    """Make a key and an application certificate; what is there is never overwritten."""
    known = tuple(names) or (socket.gethostname(),)
    application, trust = Application(name, known[0], known, organization), TrustList(directory)
    try:
        if wants_request:
            click.echo(trust.request(application, bits=int(bits)).decode(), nl=False)
            return
        certificate = trust.create(application, datetime.now(UTC), days=days, bits=int(bits))
    except FileExistsError as error:
        click.echo(f"{error.filename} is there already: it is not overwritten, as servers may trust it", err=True)
        raise SystemExit(_NO) from error
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory}: {error}") from error
    _tell(StoredCertificate("own", directory / "own" / "cert.der", certificate), as_json=as_json)


@command.command(
    epilog="""\b
Examples:
  tidegate keys opcua show pki
  tidegate keys opcua show pki 3f9a61c0"""
)
@_DIRECTORY
@click.argument("text", metavar="[FINGERPRINT]", required=False)
@_JSON
def show(directory: Path, text: str | None, *, as_json: bool) -> None:
    """Show our certificate, or another one, with the fingerprints to compare on the server."""
    trust = TrustList(directory)
    if text is not None:
        _tell(_one(trust, text, _FOLDERS), as_json=as_json)
        return
    own = next(trust.certificates_in("own"), None)
    if own is None:
        click.echo(
            f"{directory} has no certificate of ours: tidegate keys opcua create {directory} --name NAME", err=True
        )
        raise SystemExit(_NO)
    _tell(own, as_json=as_json)


@command.command("list", epilog="""\b
Example:
  tidegate keys opcua list pki --json""")  # fmt: skip
@_DIRECTORY
@_JSON
def list_(directory: Path, *, as_json: bool) -> None:
    """List every certificate in DIR, and until when it is valid."""
    trust = TrustList(directory)
    found = [kept for folder in _FOLDERS for kept in trust.certificates_in(folder)]
    if as_json:
        click.echo(json.dumps({"certificates": [_as_json(kept) for kept in found]}, indent=2))
        return
    for kept in found:
        end = _end(kept)
        click.echo(
            f"{kept.folder:8}  {fingerprint(kept.certificate)[:_SHOWN_DIGITS]}  {end}  {subject(kept.certificate)}"
        )
    if not found:
        click.echo(f"{directory} holds no certificate", err=True)


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
def trust(directory: Path, what: str, *, is_issuer: bool, as_json: bool) -> None:
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
    _tell(StoredCertificate(folder, place, certificate), as_json=as_json)


@command.command(
    epilog="""\b
Example:
  tidegate keys opcua reject pki 3f9a61c0"""
)
@_DIRECTORY
@click.argument("text", metavar="FINGERPRINT")
@_JSON
def reject(directory: Path, text: str, *, as_json: bool) -> None:
    """Trust a certificate no longer, from the next session on."""
    store = TrustList(directory)
    kept = _one(store, text, ("trusted", "issuers"))
    try:
        store.reject(kept.certificate)
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    _tell(next(one for one in store.find(fingerprint(kept.certificate), ("rejected",))), as_json=as_json)


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
    click.echo(f"{trust.directory}: {why} (tidegate keys opcua list {trust.directory})", err=True)
    raise SystemExit(_NO)


def _tell(kept: StoredCertificate, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(kept), indent=2))
        return
    about = _as_json(kept)
    rows = [
        ("certificate", about["subject"]),
        ("in", f"{kept.folder} ({kept.path})"),
        ("application", ", ".join(about["application_uris"])),
        ("hosts", ", ".join(about["hosts"])),
        ("valid", f"{about['valid_from'][:10]} to {_end(kept)}"),
        ("SHA-256", in_pairs(about["sha256"])),
        ("SHA-1", in_pairs(about["sha1"])),
    ]
    if kept.folder == "own" and lacks_key_cert_sign(kept.certificate):
        rows.append(("note", f"{WITHOUT_KEY_CERT_SIGN} {kept.path.parent.parent} --name NAME"))
    for label, text in rows:
        click.echo(f"{label:12} {text}")


def _as_json(kept: StoredCertificate) -> dict[str, Any]:
    certificate = kept.certificate
    return {
        "folder": kept.folder,
        "file": str(kept.path),
        "subject": subject(certificate),
        "application_uris": application_uris(certificate),
        "hosts": hosts(certificate),
        "valid_from": certificate.not_valid_before_utc.isoformat(),
        "valid_until": certificate.not_valid_after_utc.isoformat(),
        "sha256": fingerprint(certificate),
        "sha1": sha1_fingerprint(certificate),
    }


def _end(kept: StoredCertificate) -> str:
    end = kept.certificate.not_valid_after_utc
    return f"{end:%Y-%m-%d}" + (" (expired)" if end < datetime.now(UTC) else "")
