"""`tidegate keys identity`: the key that a gateway signs with, from its creation to its end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from edge import logs
from edge.accounts import account_name
from edge.cli.output import ExistingPath, Failure
from edge.clock import SystemClock
from edge.config.check import check
from edge.config.check_process import Site, begin_check
from edge.config.settings import GatewaySettings
from edge.errors import ConfigError
from edge.files import replace_file
from edge.gateway import settings_map
from edge.gateway.acquire import acquire
from edge.gateway.audit import EventKind
from edge.gateway.configurations import require_reason
from edge.seal import IdentityKey, MemoryCounter, create_identity, issuer_of, keep_public, public_path_of
from edge.units import format_utc
from edge.verify.anchors import anchors_in
from edge.verify.authorities import refusal_of_pem
from edge.verify.trust import RETIRED, Trust

_Command = TypeVar("_Command", bound=Callable[..., Any])

EXAMPLE = """\b
Examples:
  tidegate keys identity create /etc/tidegate/gateway.yaml
  tidegate keys identity public /etc/tidegate/gateway.yaml > line-4.pub.pem
  tidegate keys identity rotate /etc/tidegate/gateway.yaml
  tidegate keys identity retire /etc/tidegate/trusted/line-4.pub.pem --at 2026-11-30T12:00Z

Commands that write run as the user of the service: sudo -u tidegate tidegate keys identity ..."""
_CONFIG = click.argument("config", type=ExistingPath(path_type=Path))
_NEXT = click.option("--next", "is_next", is_flag=True, help="The key that the next rotation puts in force.")


@click.group("identity", epilog=EXAMPLE)
def command() -> None:
    """The key that a gateway signs with: make, show, certify, rotate and retire it."""


@command.command(
    epilog="""\b
Examples:
  tidegate keys identity create /etc/tidegate/gateway.yaml
  tidegate keys identity create /etc/tidegate/gateway.yaml --next
  tidegate keys identity create /etc/tidegate/gateway.yaml --to identity.pem

Exit code 0: there is a key now. 1: there was one already."""
)
@_CONFIG
@_NEXT
@click.option("--to", type=click.Path(path_type=Path), help="File for the key of a credential, to be encrypted.")
def create(config: Path, to: Path | None, *, is_next: bool) -> None:
    """Make the key before the first start, or the next one while the gateway runs."""
    settings = _settings(config)
    key = to or _key_file(settings, is_next=is_next)
    if key.exists():
        raise Failure(f"{key} is there already, and is never overwritten: tidegate keys identity rotate {config}")
    _check_owner(key.parent)
    create_identity(key)
    identity = _load(key)
    keep_public(_public_file(settings, is_next=is_next), identity.public_pem(_issuer(settings)))
    click.echo(f"key          {key}, for its owner only")
    click.echo(f"public key   {_public_file(settings, is_next=is_next)}, for the relay and for those who verify")
    click.echo(f"fingerprint  {identity.fingerprint}")


@command.command()
@_CONFIG
@_NEXT
def fingerprint(config: Path, *, is_next: bool) -> None:
    """Print the fingerprint, to compare on the relay and in reports."""
    settings = _settings(config)
    for anchor in anchors_in(_public_pem(settings, is_next=is_next)):
        click.echo(anchor.fingerprint)


@command.command()
@_CONFIG
@_NEXT
def public(config: Path, *, is_next: bool) -> None:
    """Print the public key with the gateway's name above it: the trust file for a relay, also of a credential."""
    click.echo(_public_pem(_settings(config), is_next=is_next), nl=False)


@command.command()
@_CONFIG
@_NEXT
def request(config: Path, *, is_next: bool) -> None:
    """Print a certificate request that names the gateway as a URI, for the plant's authority.

    It needs the private key, and runs where that can be read.
    """
    settings = _settings(config)
    click.echo(_private(settings, is_next=is_next).certificate_request(_issuer(settings)), nl=False)


@command.command(
    epilog="""\b
Example:
  tidegate keys identity install /etc/tidegate/gateway.yaml line-4.pem --ca plant-ca.pem

Exit code 0: it is installed. 1: it cannot be used, and nothing was changed."""
)
@_CONFIG
@click.argument("certificate", type=ExistingPath(path_type=Path, dir_okay=False))
@click.option("--ca", type=ExistingPath(path_type=Path), required=True,
              help="The authority as verifiers have it: the certificate is judged as they will.")  # fmt: skip
@_NEXT
def install(config: Path, certificate: Path, ca: Path, *, is_next: bool) -> None:
    """Install the certificate that the authority made of the request, with those above it, the gateway's own first."""
    settings = _settings(config)
    pem, public_pem = certificate.read_bytes(), _public_pem(settings, is_next=is_next)
    identity = next(anchors_in(public_pem))
    found = list(anchors_in(pem))
    if not found or found[0].fingerprint != identity.fingerprint:
        raise Failure(f"{certificate} is not for the key of {settings.gateway.name}; put the gateway's own first")
    if why := refusal_of_pem(pem, ca.read_bytes(), _issuer(settings)):
        raise Failure(f"{certificate} cannot be used: {why}")
    path = _certificate_file(settings, is_next=is_next)
    _check_owner(path.parent)
    replace_file(path, pem, 0o644)
    path.chmod(0o644)
    click.echo(f"certificate  {path}, valid to {format_utc(found[0].to_ns or 0)}")
    if settings.identity.certificate is None:
        click.echo(f"Write it into {config}:  identity: {{certificate: {_certificate_file(settings)}}}")
    if not is_next:
        click.echo("It is in the record from the next chain on, which a rotation begins.")


@command.command(
    epilog="""\b
Example:
  systemctl stop tidegate
  tidegate keys identity rotate /etc/tidegate/gateway.yaml
  systemctl start tidegate

Exit code 0: the new key is in force. 78: nothing was changed; the sentence says why."""
)
@_CONFIG
@click.option("--to", type=click.Path(path_type=Path), help="File for the new key of a credential, to be encrypted.")
def rotate(config: Path, to: Path | None) -> None:
    """Replace the key while the gateway is stopped: the old one signs the fingerprint of the new one, and is deleted.

    The next start begins a chain that names the end of the old one. Give the new public key to the relay before that:
    make it with create --next while the gateway runs, and print it with public --next.
    """
    site = begin_check(config, "acquire")()
    settings = site.settings
    is_file = settings.identity_key.kind == "file"
    new = _key_file(settings, is_next=True)
    if not is_file and to is None:
        raise click.UsageError(f"the key is {settings.identity_key}: say with --to FILE where the new one is written")
    if is_file and not settings.identity_key.path.exists():
        raise Failure(f"there is no key to replace; make one: tidegate keys identity create {config}")
    _check_owner(settings.gateway.state)
    if settings.identity.certificate is not None and not _certificate_file(settings, is_next=True).exists():
        raise Failure(
            f"{settings.identity.certificate} is for the old key: tidegate keys identity create, request and install, "
            f"each with {config} --next, then rotate"
        )
    if not new.exists():
        create_identity(new)
    identity = _load(new)
    logs.configure("error", "console")
    asyncio.run(_announce(site, identity.fingerprint))
    _put_in_force(settings, new, to)
    click.echo(f"fingerprint  {identity.fingerprint}")
    click.echo(f"public key   {settings_map.public_identity(settings)}: give it to the relay, then start the gateway")
    if to is not None:
        click.echo(f"key          {to}: encrypt it as the new credential, and delete it")


async def _announce(site: Site, new: str) -> None:
    """Have the old key say in the chain which one comes next; the chain ends with a STOP."""
    clock = SystemClock()
    approval = await asyncio.to_thread(require_reason, site, clock.utc_ns())
    async with acquire(site.settings, site.digest, clock, site.kept, approval) as acquisition:
        was = acquisition.identity.fingerprint
        acquisition.audit.event(EventKind.KEY_ROTATED, site.settings.gateway.name, fingerprint=new, was=was)


def _put_in_force(settings: GatewaySettings, new: Path, to: Path | None) -> None:
    """Until the key itself is replaced, the old one is in force."""
    identity, public_file = _load(new), settings_map.public_identity(settings)
    if settings.identity.certificate is not None:
        _certificate_file(settings, is_next=True).replace(settings.identity.certificate.path)
    (settings.gateway.state / "identity.counter").unlink(missing_ok=True)  # The new key counts from 1.
    keep_public(public_file, identity.public_pem(_issuer(settings)))
    public_path_of(new).unlink(missing_ok=True)
    if to is None:
        new.replace(settings.identity_key.path)
    else:
        replace_file(to, new.read_bytes(), 0o600)
        new.unlink()


@command.command(
    epilog="""\b
Example:
  tidegate keys identity retire /etc/tidegate/trusted/line-4.pub.pem --at 2026-11-30T12:00Z

Exit code 0: it is retired. 78: the file is no public key."""
)
@click.argument("file", type=ExistingPath(path_type=Path, dir_okay=False))
@click.option("--at", "at", metavar="TIME", help="From when it counts no longer: 2026-11-30T12:00Z; without it, now.")
def retire(file: Path, at: str | None) -> None:
    """Trust a public key no longer from a time on, on the relay and where reports are verified.

    FILE is the trust file. What arrived before the time stays authentic; what arrives later is refused. For a
    certificate, the revocation list of its authority does the same.
    """
    retired = _time(at)
    pem = file.read_bytes()
    if b"-----BEGIN PUBLIC KEY" not in pem:
        raise ConfigError(f"{file} holds no public key; a certificate is revoked by its authority")
    lines = [line for line in pem.splitlines(keepends=True) if not line.lower().startswith(RETIRED.lower())]
    changed = RETIRED + f": {format_utc(int(retired.timestamp()) * 10**9)}\n".encode() + b"".join(lines)
    Trust().add_pem(changed, name=str(file), gateway=None)
    replace_file(file, changed, 0o644)
    file.chmod(0o644)
    click.echo(f"{file}: retired from {retired:%Y-%m-%dT%H:%M:%SZ} on; a running relay reads it within seconds")


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise click.UsageError(f"--at {text!r} is no time with a zone; write it as 2026-11-30T12:00Z")
    return found.astimezone(UTC)


def _settings(config: Path) -> GatewaySettings:
    return check(config, role="acquire", kind="gateway").gateway()


def _issuer(settings: GatewaySettings) -> str:
    return issuer_of(settings.gateway.name)


def _key_file(settings: GatewaySettings, *, is_next: bool = False) -> Path:
    reference = settings.identity_key
    if reference.kind != "file" and not is_next:
        raise click.UsageError(f"the key is {reference}: say with --to FILE where it is written, to be encrypted")
    path = reference.path if reference.kind == "file" else settings.gateway.state / "identity.pem"
    return path.with_suffix(".next.pem") if is_next else path


def _public_file(settings: GatewaySettings, *, is_next: bool) -> Path:
    return public_path_of(_key_file(settings, is_next=True)) if is_next else settings_map.public_identity(settings)


def _certificate_file(settings: GatewaySettings, *, is_next: bool = False) -> Path:
    reference = settings.identity.certificate
    path = reference.path if reference else settings.gateway.state / "identity.crt.pem"
    return path.with_suffix(".next.pem") if is_next else path


def _public_pem(settings: GatewaySettings, *, is_next: bool) -> bytes:
    path = _public_file(settings, is_next=is_next)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Failure(f"{path} is not there; the first start makes it, or tidegate keys identity create") from None
    except PermissionError:
        raise ConfigError(f"{path} may not be read by this user; {_sudo(path.parent)}") from None


def _private(settings: GatewaySettings, *, is_next: bool) -> IdentityKey:
    if is_next or settings.identity_key.kind == "file":
        return _load(_key_file(settings, is_next=is_next))
    return IdentityKey.load(settings.identity_key.read(), MemoryCounter(), name=str(settings.identity_key))


def _load(path: Path) -> IdentityKey:
    try:
        return IdentityKey.load(path.read_bytes(), MemoryCounter(), name=f"identity key {path}")
    except PermissionError:
        raise ConfigError(f"identity key {path} may not be read by this user; {_sudo(path.parent)}") from None
    except OSError as error:
        raise ConfigError(f"identity key {path} cannot be read: {error.strerror}") from error


def _check_owner(directory: Path) -> None:
    """Files of another user than the service would stop it at its next start."""
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        raise ConfigError(f"{directory} belongs to another user; {_sudo(directory)}")


def _sudo(directory: Path) -> str:
    return f"run it as its owner: sudo -u {account_name(directory.stat().st_uid)} tidegate keys identity ..."
