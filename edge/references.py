"""Paths and secrets in a configuration: paths are relative to its folder, secrets are references."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from edge.errors import ConfigError
from edge.settings import Resolve
from edge.tls import TlsFiles

_REFERENCE = re.compile(r"(credential|file):(.+)")
GATEWAY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What a gateway can be called: a regular expression."""

_BOUND = re.compile(rf"({GATEWAY_NAME})=(.+)")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret or a certificate is stored: a systemd credential or a file."""

    kind: Literal["credential", "file"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def path(self) -> Path:
        """The file that contains it.

        Raises:
            ConfigError: it is a credential, and systemd passed none to this process.
        """
        if self.kind == "file":
            return Path(self.name)
        if (folder := os.environ.get("CREDENTIALS_DIRECTORY")) is None:
            raise ConfigError(
                f"{self} needs systemd: add LoadCredential={self.name}:PATH to the unit, or use file:PATH"
            )
        return Path(folder, self.name)

    def why_missing(self) -> str:
        """Why the file of that path does not exist, and what helps."""
        if self.kind == "file":
            return f"{self.path} does not exist"
        return (
            f"{self} was not handed in by systemd: put its file where LoadCredential= or LoadCredentialEncrypted= in a "
            f"drop-in of the unit looks for {self.name}, then restart the service"
        )

    def read(self) -> bytes:
        """The content of that file.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(self.why_missing()) from None
        except OSError as error:
            raise ConfigError(f"{self} cannot be read: {error.strerror}") from error


class TrustPath(NamedTuple):
    """A trust file or a directory of them; with a gateway it counts for that one only."""

    path: Path
    gateway: str | None = None


def trust_path(text: object, context: Mapping[str, Any] = MappingProxyType({})) -> TrustPath:
    """From PATH or GATEWAY=PATH. Raises ValueError unless it exists."""
    if isinstance(text, TrustPath):
        return text
    match = _BOUND.fullmatch(text) if isinstance(text, str) else None
    gateway, path = match.groups() if match else (None, text)
    return TrustPath(_existing(path, context), gateway)


def tls_files(
    ca: Reference,
    certificate: Reference | None,
    key: Reference | None,
    crl: Reference | None = None,
    *,
    settings: str = "tls",
    minimum: Literal["1.2", "1.3"] = "1.3",
) -> TlsFiles:
    """The files behind the references of a section `tls`; `settings` is its key, for messages.

    Raises:
        ConfigError: one is a credential, and systemd passed none to this process.
    """
    own, own_key, lists = (each.path if each else None for each in (certificate, key, crl))
    return TlsFiles(ca=ca.path, certificate=own, key=own_key, crl=lists, minimum=minimum, settings=settings)


def _relative_to_folder(text: str, context: Mapping[str, Any]) -> Path:
    return Path(context["folder"], text) if context else Path(text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # This user may not read the folder; the service may.
        return True


def _location(value: object, context: Mapping[str, Any]) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path")
    return _relative_to_folder(value, context)


def _existing(value: object, context: Mapping[str, Any]) -> Path:
    path = _location(value, context)
    if context and not _exists(path):
        raise ValueError(f"{path} does not exist")
    return path


def _reference(value: object, context: Mapping[str, Any], *, allow_plain_path: bool = False) -> Reference:
    if isinstance(value, Reference):
        return value
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) and "\0" not in value else None
    if match is None and allow_plain_path and isinstance(value, str) and value and "\0" not in value:
        return Reference("file", str(_relative_to_folder(value, context)))
    if match is None:
        # The text may be the secret itself: the message must not repeat it.
        raise ValueError("must be credential:NAME or file:PATH, never the value itself")
    kind, name = match.groups()
    if kind == "file":
        return Reference("file", str(_relative_to_folder(name, context)))
    if not _CREDENTIAL_NAME.fullmatch(name):
        raise ValueError("must name a credential with letters, digits, dots, dashes and underscores")
    return Reference("credential", name)


def _must_exist(reference: Reference, context: Mapping[str, Any]) -> Reference:
    if not context:
        return reference
    # A role has only its own credentials; a missing one is reported when it is read.
    has_all = "CREDENTIALS_DIRECTORY" in os.environ and not context.get("is_for_one_role")
    if (reference.kind == "file" or has_all) and not _exists(reference.path):
        raise ValueError(reference.why_missing())
    return reference


def _secret(value: object, context: Mapping[str, Any]) -> Reference:
    return _must_exist(_reference(value, context), context)


def _certificate(value: object, context: Mapping[str, Any]) -> Reference:
    return _must_exist(_reference(value, context, allow_plain_path=True), context)


_PATH_SCHEMA = {"type": "string", "minLength": 1}
_SECRET_SCHEMA = {"type": "string", "pattern": f"^{_REFERENCE.pattern}$", "examples": ["credential:NAME", "file:PATH"]}

Location = Annotated[Path, Resolve(_location, _PATH_SCHEMA)]
"""A file or directory, relative to the configuration file; it need not exist yet."""

Existing = Annotated[Path, Resolve(_existing, _PATH_SCHEMA)]
"""A file or directory that exists, relative to the configuration file."""

Trusted = Annotated[TrustPath, Resolve(trust_path, _PATH_SCHEMA)]
"""A trust file or directory that exists, alone or as GATEWAY=PATH."""

Secret = Annotated[Reference, Resolve(_secret, _SECRET_SCHEMA)]
"""`credential:NAME` or `file:PATH`; the file must exist."""

KeyFile = Annotated[Reference, Resolve(_reference, _SECRET_SCHEMA)]
"""`credential:NAME` or `file:PATH`; the file may be created on first start."""

Certificate = Annotated[Reference, Resolve(_certificate, _PATH_SCHEMA)]
"""A path, `file:PATH` or `credential:NAME`; the file must exist."""
