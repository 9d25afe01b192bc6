"""`tidegate keys show`: what a key is, by a file, a configuration, or the records that it signed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import click

from edge.cli.output import ExistingPath, Failure
from edge.cli.verify import stored
from edge.config.check import check
from edge.config.settings import GatewaySettings
from edge.errors import ConfigError
from edge.references import Reference, TrustPath
from edge.relay.archive import record_files
from edge.seal import (
    Checkpoint,
    Epoch,
    Garbage,
    KeyChange,
    Malformed,
    PublicKey,
    RecordType,
    decode_frame,
    parse,
    public_path_of,
)
from edge.seal.record import ISSUER_PREFIX
from edge.terminal import printable, wrap
from edge.units import format_utc
from edge.verify.anchors import Anchor, anchors_in, grouped
from edge.verify.chain_state import stated_ns
from edge.verify.trust import trust_files

_LABEL = len("  fingerprint  ")
_DIGESTS = ("fingerprint", "certificate")
_GROUP = len("340b:")
_WIDE = 10_000
_DAY_NS = 86400 * 10**9
_LIMIT_BYTES = 4 * 2**20
_LATEST_NS = 253_402_300_799 * 10**9
_KEY_TYPES = (RecordType.EPOCH, RecordType.CHECKPOINT, RecordType.KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAnswer:
    """One key, certificate or revocation list."""

    kind: str
    """identity, session, CA, certificate, TLS certificate, revocation list or private key"""
    name: str
    gateway: str
    """The only gateway that it counts for; empty where that is not said."""
    fingerprint: str
    """Of the key, as reports have it; by records its first 16 digits."""
    certificate: str
    """SHA-256 of the certificate."""
    from_ns: int | None
    """UTC from which it is valid; of records, of the first one that it signed."""
    to_ns: int | None
    where: str
    """The file, the setting, or the folder of the records."""
    records: int | None
    """How many records it signed, where records were read: by an identity EPOCHs and CHECKPOINTs only."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysAnswer:
    """All keys that were found."""

    keys: tuple[KeyAnswer, ...]


@click.command(
    "show",
    epilog="""\b
Examples:
  tidegate keys show /var/lib/tidegate/identity.pub.pem
  tidegate keys show /etc/tidegate-relay/trusted
  tidegate keys show /etc/tidegate/line-4.yaml
  tidegate keys show /var/lib/tidegate-relay

Exit code 0: there is one. 1: there is none.""",
)
@click.argument("path", type=ExistingPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def command(path: Path, *, as_json: bool) -> KeysAnswer | None:
    """Show name, fingerprint and validity of keys and certificates. Nothing of a private key is printed.

    PATH is a file or directory with keys, certificates and revocation lists, the configuration of a gateway or a
    relay, or an archive, record files or a buffer, whose records name the keys that signed them.
    """
    if _holds_records(path):
        found = list(_by_records(path))
    elif path.suffix in (".yaml", ".yml") or (path.is_dir() and any(path.glob("*.y*ml"))):
        found = list(_by_configuration(path))
    else:
        found = [answer for file in trust_files(path) for answer in _by_file(file, str(file))]
    if not found:
        raise Failure(f"{path} holds no key, no certificate and no revocation list in PEM or DER")
    if as_json:
        return KeysAnswer(keys=tuple(found))
    for each in found:
        _show(each)
    if _holds_records(path):
        click.echo("Records name an identity by the first 16 digits of its fingerprint. No signature was checked:")
        click.echo("tidegate verify --trust KEY proves who signed.")
    return None


def _holds_records(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.seg")) or bool(record_files(path))
    return path.suffix == ".rec"


def _answer(anchor: Anchor, where: str, records: int | None = None) -> KeyAnswer:
    return KeyAnswer(**asdict(anchor), where=where, records=records)


def _by_file(path: Path, where: str, gateway: str | None = None) -> Iterator[KeyAnswer]:
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT_BYTES)
    except OSError as error:
        note = f"{path} cannot be read: {error.strerror}"
        yield _answer(Anchor(kind="unknown", note=note), where)
        return
    for anchor in anchors_in(data, gateway):
        yield _answer(anchor, where)


# By a configuration


def _by_configuration(path: Path) -> Iterator[KeyAnswer]:
    checked = check(path)
    if checked.settings is None:
        raise ConfigError(checked.errors)
    for setting, value in _files_in(checked.settings):
        if isinstance(value, TrustPath):
            for file in trust_files(value.path):
                yield from _by_file(file, f"{setting}: {file}", value.gateway)
            continue
        try:
            file = value.path
        except ConfigError as error:
            yield _answer(Anchor(kind="unknown", note=str(error)), setting)
            continue
        yield from _by_file(file, f"{setting}: {file}")
    if isinstance(checked.settings, GatewaySettings):
        yield from _identity(checked.settings)


def _identity(settings: GatewaySettings) -> Iterator[KeyAnswer]:
    """The identity where no setting names it, and the public half where the key may not be read."""
    reference = settings.identity_key
    if reference.kind != "file":
        return
    public = public_path_of(reference.path)
    if public.exists():
        yield from _by_file(public, f"identity: {public}")
    elif not reference.path.exists():
        note = f"{reference.path} is not there yet; the first start makes it"
        yield _answer(Anchor(kind="identity", name=settings.gateway.name, note=note), "identity")


def _files_in(settings: Any, path: str = "") -> Iterator[tuple[str, Reference | TrustPath]]:
    """Each setting that refers to a file which may hold a key or a certificate, with its path."""
    if isinstance(settings, Reference | TrustPath):
        yield path, settings
    elif is_dataclass(settings) and not isinstance(settings, type):
        for each in fields(settings):
            if each.name != "tags":
                yield from _files_in(getattr(settings, each.name), f"{path}.{each.name}" if path else each.name)
    elif isinstance(settings, list | tuple):
        for number, each in enumerate(settings):
            name = getattr(each, "name", None) or number
            yield from _files_in(each, f"{path}[{name}]")


# By records


@dataclass(slots=True)
class _Signer:
    """What the records of a gateway say of one key."""

    anchor: Anchor
    records: int = 0
    from_ns: int | None = None
    to_ns: int | None = None

    def note(self, at_ns: int | None) -> None:
        self.records += 1
        if at_ns is not None:
            self.from_ns = at_ns if self.from_ns is None else min(self.from_ns, at_ns)
            self.to_ns = at_ns if self.to_ns is None else max(self.to_ns, at_ns)


def _by_records(path: Path) -> Iterator[KeyAnswer]:
    """The identities, each with the certificates that its EPOCHs give, and the newest of the session keys."""
    identities: dict[tuple[str, bytes], _Signer] = {}
    sessions: dict[str, dict[bytes, PublicKey]] = {}
    certificates: dict[tuple[str, bytes], Anchor] = {}
    for found in stored((path,), None):
        try:
            frame = parse(found.data or b"")
            if frame.type not in _KEY_TYPES:
                continue
            content = decode_frame(frame)
        except (Garbage, Malformed):
            continue
        assert isinstance(content, Epoch | Checkpoint | KeyChange)
        sessions.setdefault(frame.issuer, {})[content.session.kid] = content.session
        if isinstance(content, KeyChange):
            continue
        name = frame.issuer.removeprefix(ISSUER_PREFIX)
        anchor = Anchor(kind="identity", name=name, gateway=name, fingerprint=grouped(frame.kid))
        identities.setdefault((frame.issuer, frame.kid), _Signer(anchor)).note(stated_ns(content))
        for der in content.certificates if isinstance(content, Epoch) else ():
            for each in anchors_in(der):
                certificates.setdefault((frame.issuer, der), each)
    for (issuer, _), signer in identities.items():
        anchor = replace(signer.anchor, from_ns=signer.from_ns, to_ns=signer.to_ns)
        yield _answer(anchor, str(path), signer.records)
        yield from (_answer(each, str(path)) for (of, _), each in certificates.items() if of == issuer)
    for issuer, keys in sessions.items():
        name = issuer.removeprefix(ISSUER_PREFIX)
        newest = list(keys.values())[-1].fingerprint
        note = f"the newest of {len(keys):,} in these records" if len(keys) > 1 else "the only one in these records"
        yield _answer(Anchor(kind="session", name=name, gateway=name, fingerprint=newest, note=note), str(path))


# Printing


def _show(key: KeyAnswer) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(printable(" ".join(filter(None, (key.kind, key.name)))))
    for label, text in _fields(key):
        room = _WIDE if width is None else max(10, width - _LABEL)
        for number, line in enumerate(_digest(text, room) if label in _DIGESTS else wrap(printable(text), room)):
            click.echo(f"  {'' if number else label:{_LABEL - 2}}{line}")


def _fields(key: KeyAnswer) -> Iterator[tuple[str, str]]:
    yield "where", key.where
    if key.fingerprint:
        yield "fingerprint", key.fingerprint
    if key.certificate:
        yield "certificate", key.certificate
    if key.gateway and key.gateway != key.name:
        yield "counts for", f"{key.gateway} only"
    if key.records is not None:
        yield "named in", f"{key.records:,} records, {_range(key)}"
    elif key.from_ns is not None:
        yield "valid", f"{_range(key)}{_left(key.to_ns)}"
    if key.note:
        yield "note", key.note


def _digest(digest: str, room: int) -> Iterator[str]:
    """A digest in one line, or in as many as a narrow terminal needs."""
    groups = digest.split(":")
    fit = (room + 1) // _GROUP
    count = next(each for each in (len(groups), 8, 4, 2, 1) if each <= max(1, fit))
    for at in range(0, len(groups), count):
        yield ":".join(groups[at : at + count])


def _range(key: KeyAnswer) -> str:
    ends = ("?" if at_ns is None else format_utc(min(at_ns, _LATEST_NS)) for at_ns in (key.from_ns, key.to_ns))
    return " to ".join(ends)


def _left(to_ns: int | None) -> str:
    if to_ns is None:
        return ""
    days = (to_ns - time.time_ns()) // _DAY_NS
    return f" ({days:,} days left)" if days >= 0 else " (EXPIRED)"
