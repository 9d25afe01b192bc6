"""Who may read and change what the configuration names, and until when its certificates are valid."""

from __future__ import annotations

import grp
import os
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from edge.config.check import Checked
from edge.config.settings import BrokerSettings, GatewaySettings, HistorianSettings, KafkaSettings, RelaySettings
from edge.doctor.findings import Finding
from edge.doctor.machine import directories
from edge.errors import ConfigError
from edge.references import Reference, TrustPath, tls_files
from edge.terminal import age
from edge.tls import Certificate, in_pem, load_context

SECRETS = frozenset({"key", "password"})
"""Settings that name secrets; the other references name certificates."""

_SOON_NS = 30 * 86_400 * 10**9
_OTHERS_READ, _OTHERS_WRITE = stat.S_IRWXO, stat.S_IWOTH
_LIMIT_BYTES = 4 * 2**20


def references(held: Any, path: str = "") -> Iterator[tuple[str, str, Reference]]:
    """(key of the setting, its last part, reference) of every file and credential that settings name."""
    if isinstance(held, Reference):
        yield path, path.rpartition(".")[2].partition("[")[0], held
    elif isinstance(held, TrustPath):
        yield path, "trust", Reference("file", str(held.path))
    elif is_dataclass(held):
        for each in fields(held):
            yield from references(getattr(held, each.name), f"{path}.{each.name}" if path else each.name)
    elif isinstance(held, list | tuple):
        for number, item in enumerate(held):
            yield from references(item, f"{path}[{number}]")


def permissions(config: str, checked: Checked) -> Iterator[Finding]:
    """Whether anybody else may read a secret, or change what the service believes."""
    folder = Path(config) if Path(config).is_dir() else Path(config).parent
    seen = [Path(config), *(folder / name for name in checked.files)]
    found = [finding for path in dict.fromkeys(seen) for finding in _changeable(path)]
    settings = checked.settings
    if settings is not None:
        found += [finding for each in references(settings) for finding in _of_reference(*each)]
        if isinstance(settings, GatewaySettings) and settings.identity.key is None:
            found += _of_reference("the identity key", "key", settings.identity_key, is_identity=True)
        found += [finding for directory in directories(settings) for finding in _directory(directory)]
    yield from found
    if not any(finding.severity in ("critical", "warning") for finding in found):
        of_what = "of what was looked at, " if any(each.severity == "unseen" for each in found) else ""
        text = f"{of_what}no one else may read secrets or change files"
        yield Finding(severity="ok", area="files", text=text)


def _of_reference(setting: str, name: str, reference: Reference, *, is_identity: bool = False) -> Iterator[Finding]:
    is_identity = is_identity or setting == "identity.key"
    try:
        path = reference.path
    except ConfigError:
        yield Finding(severity="unseen", area="files", text=f"{setting}: {reference} is shown to the service only",
                      remedy="see LoadCredential= with systemctl cat, and look at the file that it names")  # fmt: skip
        return
    yield from _changeable(path)
    if name in SECRETS and (mode := _mode(path)) is not None:
        if mode & _OTHERS_READ:
            text = f"{path} ({setting}) is a secret, and everybody may read it (mode {mode:04o})"
            yield Finding(severity="critical", area="files", remedy=f"chmod o= {path}, and replace it", text=text)
        elif is_identity and mode & stat.S_IRWXG:
            text = f"{path} signs the records, and the group {_group(path)} may use it (mode {mode:04o})"
            yield Finding(severity="critical", area="files", remedy=f"chmod 600 {path}", text=text)
        elif mode & stat.S_IWGRP:
            text = f"{path} ({setting}) is a secret that the group {_group(path)} may change (mode {mode:04o})"
            yield Finding(severity="warning", area="files", remedy=f"chmod g-w {path}", text=text)


def _directory(directory: Path) -> Iterator[Finding]:
    yield from _changeable(directory)
    mode = _mode(directory)
    if mode is not None and mode & _OTHERS_READ and not mode & _OTHERS_WRITE:
        text = f"everybody may look into {directory} (mode {mode:04o})"
        yield Finding(severity="warning", area="files", text=text, remedy=f"chmod o= {directory}")


def _changeable(path: Path) -> Iterator[Finding]:
    """Where everybody may change a file, or put another in its place; and what this user may not see."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return  # The check of the configuration says so, unless it is made at the first start.
    except OSError as error:
        yield Finding(severity="unseen", area="files", text=f"{path}: {error.strerror}", remedy="run it as root")
        return
    if mode & _OTHERS_WRITE:
        yield Finding(severity="critical", area="files", text=f"everybody may change {path} (mode {mode:04o})",
                      remedy=f"chmod o-w {path}, and look at what is in it")  # fmt: skip
    for parent in path.absolute().parents:
        above = _mode(parent)
        if above is not None and above & _OTHERS_WRITE and not above & stat.S_ISVTX:
            yield Finding(severity="critical", area="files", remedy=f"chmod o-w {parent}",
                          text=f"everybody may replace what is in {parent} (mode {above:04o})")  # fmt: skip


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _group(path: Path) -> str:
    number = path.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def certificates(settings: GatewaySettings | RelaySettings, known: Collection[str]) -> Iterator[Finding]:
    """Until when certificates are valid, and whether they fit their keys; `known` are those the process looks after."""
    count = 0
    for setting, name, reference in references(settings):
        if name in SECRETS or reference.kind == "credential":
            continue
        for each in _in(Path(reference.name)):
            count += 1
            left_ns = each.expires_at_ns - time.time_ns()
            if each.name in known or left_ns > _SOON_NS:
                continue
            when = f"expired {age(-left_ns)} ago" if left_ns <= 0 else f"expires in {age(left_ns)}"
            yield Finding(severity="critical" if left_ns <= 0 else "warning", area="certificates",
                          text=f"{each.name} in {reference.name} ({setting}) {when}",
                          remedy="renew it, and put the new one in the same place")  # fmt: skip
    if count:
        yield Finding(severity="ok", area="certificates", text=f"{count} certificates were looked at")
    yield from _pairs(settings, "")


def _pairs(held: Any, path: str) -> Iterator[Finding]:
    """Whether each certificate for a broker, database or Kafka belongs to its key."""
    if isinstance(held, BrokerSettings | HistorianSettings | KafkaSettings) and held.tls != "off":
        tls = held.tls
        try:
            load_context(tls_files(tls.ca, tls.certificate, tls.key, tls.crl, settings=f"{path}.tls", minimum="1.2"))
        except ConfigError as error:
            named = [reference for _, _, reference in references(tls)]
            if any(each.kind == "credential" for each in named):
                remedy = "the service reads them: its status says what is wrong with them"
                yield Finding(severity="unseen", area="certificates", remedy=remedy,
                              text=f"{path}.tls: credentials are shown to the service only")  # fmt: skip
            elif not all(os.access(each.name, os.R_OK, effective_ids=True) for each in named):
                yield Finding(severity="unseen", area="certificates", text=str(error), remedy="run it as root")
            else:
                yield Finding(severity="critical", area="certificates", text=str(error),
                              remedy="correct the file; it is read anew at the next connection")  # fmt: skip
    if is_dataclass(held):
        for each in fields(held):
            yield from _pairs(getattr(held, each.name), f"{path}.{each.name}" if path else each.name)


def _in(path: Path) -> list[Certificate]:
    """All certificates of a file or a directory; empty where it holds none, or may not be read."""
    is_listed = path.is_dir() and os.access(path, os.R_OK, effective_ids=True)
    found = []
    for file in sorted(path.iterdir()) if is_listed else [path]:
        try:
            if file.is_file() and file.stat().st_size <= _LIMIT_BYTES:
                found += in_pem(file.read_bytes())
        except (OSError, ValueError):
            continue
    return found
