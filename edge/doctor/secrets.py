"""What must not leave the machine: known secrets wherever they stand, and whatever has the shape of one."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge.config.written import NOT_KEPT, clean
from edge.references import Reference, TrustPath

_LEAST = 4  # A shorter one stands in half of all words: every text would be unreadable, and it be no secret.
_LINE_LEAST = 16  # Of one line of a key.
_LIMIT_BYTES = 2**20
_NAMES = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|api[_-]?key|private[_-]?key|access[_-]?key|"
    r"shared[_-]?key|(?<![A-Za-z])pin"
)
_NAMED = re.compile(
    rf"""(?P<name>(?:{_NAMES})[\w-]{{0,64}}\\?["']?\s*[:=]\s*)"""
    r"""(?P<value>\\"(?:(?!\\").)*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&}\]"']+)""",
    re.IGNORECASE,
)
_IS_SECRET_MEMBER = re.compile(rf"(?:{_NAMES})$", re.IGNORECASE)
_IS_NAME_OF_SECRET = re.compile(_NAMES + "|key$", re.IGNORECASE)
_KEPT = re.compile(r"(?:credential|file):[^\s]+|null|None|true|false|\(not(?: kept\))?")
_HINTS = ("://", "bearer", "basic", "digest", "eyj", "pass", "pwd", "secret", "token", "credential", "key", "pin")
"""A line without any of them has none of the shapes below; most lines of a log are done with that."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY-----|[\w+/=\s\\]*)", re.DOTALL
)
_SHAPES = (
    (re.compile(r"(?<=://)[^\s\"'<>]{0,1000}@"), f"{NOT_KEPT}@"),
    (re.compile(r"\b(bearer|basic|digest)\s+[\w+/.=~-]{8,}", re.IGNORECASE), rf"\1 {NOT_KEPT}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), NOT_KEPT),
    (re.compile(rf"(--[\w-]*(?:{_NAMES})[\w-]*[ =])(?!file:|credential:)\S+", re.IGNORECASE), rf"\1{NOT_KEPT}"),
)  # fmt: skip
_UNIT_LINE = re.compile(r"^(\s*(?:Environment|SetCredential\w*)\s*=).*$", re.MULTILINE)


class Secrets:
    """Those of one machine, as far as this user may read them.

    Attributes:
        unread: files with secrets that could not be read, and cannot be looked for.
    """

    def __init__(self) -> None:
        self.unread: list[str] = []
        self._known: set[str] = set()

    def learn(self, text: str) -> None:
        """Look for this text from here on, in the ways in which it may be written."""
        text = text.strip()
        if len(text) < _LEAST or _KEPT.fullmatch(text):
            return
        escaped = text.encode("unicode_escape").decode().replace('"', '\\"')
        encoded = base64.b64encode(text.encode()).decode().rstrip("=")
        lines = [line for line in text.splitlines() if len(line) >= _LINE_LEAST and not line.startswith("-----")]
        self._known |= {text, quote(text, safe=""), quote(text), escaped, encoded, *lines}

    def learn_file(self, path: Path) -> None:
        """The content of a file with a secret; of a directory, of each of its files."""
        try:
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                with file.open("rb") as opened:
                    data = opened.read(_LIMIT_BYTES)
                if b"-----BEGIN CERTIFICATE-----" not in data or b"PRIVATE KEY" in data:
                    self.learn(data.decode("utf-8", "replace"))
        except FileNotFoundError:
            return
        except OSError as error:
            self.unread.append(f"{path}: {error.strerror}")

    def learn_environment(self, variables: Mapping[str, str]) -> None:
        """The values of those variables whose names are names of secrets."""
        for name, value in variables.items():
            if _IS_NAME_OF_SECRET.search(name):
                self.learn(value)

    def learn_written(self, value: Any, key: str = "") -> None:
        """What stands in a configuration where only a reference belongs, and accounts in addresses."""
        if isinstance(value, Mapping):
            for name, item in value.items():
                self.learn_written(item, str(name))
        elif isinstance(value, list):
            for item in value:
                self.learn_written(item, key)
        elif isinstance(value, str) and not _KEPT.fullmatch(value):
            if _IS_NAME_OF_SECRET.search(key):
                self.learn(value)
            for account in re.findall(r"://([^\s\"'<>]*)@", value):
                self.learn(account.partition(":")[2])

    def remove(self, text: str) -> str:
        """The text without them."""
        for known in sorted(self._known, key=len, reverse=True):
            text = text.replace(known, NOT_KEPT)
        text = _PRIVATE_KEY.sub(NOT_KEPT, text)
        return "".join(map(_without_shapes, text.splitlines(keepends=True)))

    def remove_from(self, value: Any, key: str = "") -> Any:
        """What JSON holds, without them: its form stays, also where a secret is a number."""
        if isinstance(value, dict):
            return {self.remove(name): self.remove_from(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.remove_from(item, key) for item in value]
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        if text in self._known or (
            isinstance(value, str) and _IS_SECRET_MEMBER.search(key) and not _KEPT.fullmatch(text)
        ):
            return NOT_KEPT
        return self.remove(value) if isinstance(value, str) else value


def _without_shapes(line: str) -> str:
    lower = line.lower()
    if not any(hint in lower for hint in _HINTS):
        return line
    for shape, instead in _SHAPES:
        line = shape.sub(instead, line)
    return _NAMED.sub(_without_value, line)


def _without_value(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    bare = value.strip("\\\"'")
    if not bare or _KEPT.fullmatch(bare) or _is_reference(match):
        return match[0]
    mark = next((mark for mark in ('\\"', '"', "'") if value.startswith(mark)), "")
    return f"{name}{mark}{NOT_KEPT}{mark}"


def _is_reference(match: re.Match[str]) -> bool:
    """Whether a name or a path of a credential follows: credential:NAME, LoadCredential=NAME:PATH."""
    return match["name"] == "credential:" or match.string.endswith("Load", 0, match.start())


def without_environment(unit: str) -> str:
    """The text of a unit without the values of its environment and of credentials that stand in it."""
    return _UNIT_LINE.sub(rf"\1{NOT_KEPT}", unit.replace("\\\n", " "))


def plain(settings: Any) -> Any:
    """Settings with their defaults, as JSON has them, without secrets."""
    return clean(_plain(settings))


def _plain(value: Any) -> Any:
    if isinstance(value, Reference | Path):
        return str(value)
    if isinstance(value, TrustPath):
        return f"{value.gateway}={value.path}" if value.gateway else str(value.path)
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
