"""The file of those whose signature counts: OpenSSH's ALLOWED SIGNERS format, with the role of each as the comment.

    berta@plant.example valid-before="20280101Z" ssh-ed25519 AAAAC3Nza... Head of quality

A line names one person and one key; a person with several keys has several lines. What OpenSSH takes and a plant cannot
want is refused: patterns that fit anybody, and authorities, whose certificates nobody listed here has seen.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from edge.approval.sshsig import Refused, Signature, check_key
from edge.errors import ConfigError, Problem
from edge.units import format_utc

LIMIT_BYTES = 1 << 20
_PART = re.compile(r'(?:"[^"]*"|[^\s"])+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(,|$)')
_NAME = re.compile(r"[^\s,*?!\"#]+")
_TIME = re.compile(r"(\d{8})(\d{4}(\d{2})?)?(Z?)")
_NAMESPACE = re.compile(r"[a-z0-9.@_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A person and a key.

    Attributes:
        name: the principal.
        key: the public key as SSH has it on the wire.
        role: what the person is at the plant.
        namespaces: what the key may sign; none: anything.
        from_s: UTC from which the key counts, and `to_s` to which, in s; None leaves that open.
    """

    name: str
    key: bytes
    role: str
    namespaces: tuple[str, ...] = ()
    from_s: int | None = None
    to_s: int | None = None


class Signers(NamedTuple):
    """Those of a file, in its order."""

    listed: Sequence[Signer]

    @classmethod
    def read(cls, path: Path) -> Signers:
        """From a file. Raises OSError, or ConfigError as `parse` does."""
        with path.open("rb") as file:
            return cls.parse(file.read(LIMIT_BYTES + 1), str(path))

    @classmethod
    def parse(cls, data: bytes, file: str) -> Signers:
        """From the content of a file. Raises ConfigError with every problem, each with line and column."""
        listed, problems = [], []
        if len(data) > LIMIT_BYTES:
            raise ConfigError([Problem("is larger than 1 MiB; an allowed-signers file has a line for each key", file)])
        for number, raw in enumerate(data.split(b"\n"), 1):
            try:
                line = raw.decode("utf-8")
                if line.strip() and not line.lstrip().startswith("#"):
                    listed.append(_Line(line).signer())
            except UnicodeDecodeError as error:
                problems.append(Problem("is not UTF-8", file, number, error.start + 1))
            except _Wrong as error:
                problems.append(Problem(error.message, file, number, error.column))
        if not listed and not problems:
            problems.append(Problem("names nobody; a line is: NAME ssh-ed25519 KEY ROLE", file))
        if problems:
            raise ConfigError(problems)
        return cls(listed)

    def named(self, key: bytes) -> set[str]:
        """Everybody to whom a key belongs."""
        return {each.name for each in self.listed if each.key == key}

    def signer(self, signature: Signature, at_s: int) -> Signer:
        """Who made a signature, at a time in s UTC. Raises Refused: nobody whose signature counts."""
        found = [each for each in self.listed if each.key == signature.key]
        if not found:
            raise Refused("unknown", f"the key {signature.fingerprint} is not in the file of allowed signers")
        refused = None
        for each in found:
            if each.to_s is not None and at_s > each.to_s:
                refused = Refused("expired", f"the key of {each.name} was retired: it counted until "
                                             f"{format_utc(each.to_s * 10**9)}")  # fmt: skip
            elif each.from_s is not None and at_s < each.from_s:
                refused = Refused("expired", f"the key of {each.name} does not count yet: it will from "
                                             f"{format_utc(each.from_s * 10**9)}")  # fmt: skip
            elif each.namespaces and signature.namespace not in each.namespaces:
                refused = Refused("namespace", f"the key of {each.name} may sign {', '.join(each.namespaces)}, and not "
                                               f"{signature.namespace}")  # fmt: skip
            else:
                return each
        assert refused is not None
        raise refused


class _Wrong(Exception):
    def __init__(self, message: str, column: int) -> None:
        self.message, self.column = message, column


class _Line:
    """One line, taken part by part."""

    def __init__(self, line: str) -> None:
        self._line, self._at = line, 0
        self._column = 1

    def _next(self, what: str) -> str:
        start = len(self._line) - len(self._line[self._at :].lstrip())
        self._column = start + 1
        found = _PART.match(self._line, start)
        if found is None:
            raise self._wrong(f"{what} is missing; a line is: NAME ssh-ed25519 KEY ROLE")
        self._at = found.end()
        return found[0]

    def _wrong(self, message: str) -> _Wrong:
        return _Wrong(message, self._column)

    def signer(self) -> Signer:
        """What the line says."""
        names = self._next("the name")
        if not _NAME.fullmatch(names) or not names.isprintable():
            raise self._wrong(f"{names[:60]!r} must be the name of one person, without , * ? ! and quotes")
        signer = Signer(name=names, key=b"", role="")
        kind = self._next("the key")
        if not kind.startswith(("ssh-", "ecdsa-", "sk-")):
            signer = self._with_options(signer, kind)
            kind = self._next("the key")
        text = self._next("the key, in base64,")
        try:
            key = base64.b64decode(text, validate=True)
            check_key(key, kind)
        except binascii.Error:
            raise self._wrong("the key is not base64") from None
        except Refused as error:
            raise self._wrong(f"the key cannot be used: {error.why}") from None
        self._column = self._at + 2
        role = self._line[self._at :].strip()
        if not role:
            raise self._wrong(f"the role of {names} is missing: write it after the key, such as Head of quality")
        if not role.isprintable():
            raise self._wrong("the role has characters that cannot be seen")
        return replace(signer, key=key, role=role)

    def _with_options(self, signer: Signer, text: str) -> Signer:
        begin, at = self._column, 0
        while at < len(text):
            self._column = begin + at
            found = _OPTION.match(text, at)
            if found is None:
                raise self._wrong(
                    f'{text[at : at + 40]!r} is no option: valid-before="20280101Z" has a value in quotes'
                )
            signer = self._with_option(signer, found[1].lower(), found[2])
            at = found.end()
        self._column = begin
        if signer.from_s is not None and signer.to_s is not None and signer.from_s >= signer.to_s:
            raise self._wrong("valid-before lies before valid-after")
        return signer

    def _with_option(self, signer: Signer, name: str, value: str | None) -> Signer:
        match name:
            case "cert-authority":
                raise self._wrong("authorities are not accepted: list the key of each person itself")
            case "namespaces" if value:
                names = tuple(value.split(","))
                if not all(map(_NAMESPACE.fullmatch, names)):
                    raise self._wrong('namespaces are written out, without patterns: namespaces="config@tidegate"')
                return replace(signer, namespaces=names)
            case "valid-after" if value:
                return replace(signer, from_s=self._time(value))
            case "valid-before" if value:
                return replace(signer, to_s=self._time(value))
        raise self._wrong(
            f"{name} is not accepted here; namespaces, valid-after and valid-before are, with a value in quotes"
        )

    def _time(self, text: str) -> int:
        """As OpenSSH reads it: of this machine's zone, unless it ends with Z."""
        found = _TIME.fullmatch(text)
        if found is not None:
            form = "%Y%m%d" + ("%H%M" if found[2] else "") + ("%S" if found[3] else "")
            try:
                moment = datetime.strptime(found[1] + (found[2] or ""), form)  # noqa: DTZ007 - the zone follows
                if found[4]:
                    return int(moment.replace(tzinfo=UTC).timestamp())
                return int(time.mktime(moment.timetuple()))
            except (ValueError, OverflowError):
                pass
        raise self._wrong(f"{text[:40]!r} is no time: write 20280101Z, or 202801011200Z")
