"""Addresses of nodes as engineers write them: by the URI of a namespace, never by its index, which may change."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast
from uuid import UUID

STANDARD = "http://opcfoundation.org/UA/"
"""Namespace 0 (OPC 10000-6, 5.1.12), the only one whose index never changes."""

_EXAMPLES = '"nsu=http://vendor.example/x;s=Line4.Temp" or "/Objects/{http://vendor.example/x}Line4"'
_NODE = re.compile(r"(?:(?P<how>nsu|ns)=(?P<namespace>[^;]*);)?(?P<kind>[isgb])=(?P<identifier>.*)", re.DOTALL)
_STEP = re.compile(
    r"(?:\{(?P<uri>[^{}]*)\}|(?P<short>(?:[^&/:{}]|&.)*):)?(?P<name>(?:[^&/]|&.)+)", re.DOTALL
)  # & escapes the character after it (OPC 10000-4, A.2).
_ESCAPED = re.compile(r"&(.)", re.DOTALL)
_NUMERIC_LIMIT = 2**32

Kind = Literal["i", "s", "g", "b"]


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node by its identifier: numeric, string, GUID or opaque (OPC 10000-3, 8.2).

    Attributes:
        namespace: its URI, or a short name until `within` replaces that.
    """

    namespace: str
    kind: Kind
    identifier: int | str | UUID | bytes

    def within(self, namespaces: Mapping[str, str]) -> NodeAddress:
        """The same with its namespace by URI. Raises ValueError where a short name stands for none."""
        return replace(self, namespace=_uri(self.namespace, namespaces, str(self)))

    def __str__(self) -> str:
        identifier = self.identifier
        text = base64.b64encode(identifier).decode() if isinstance(identifier, bytes) else str(identifier)
        namespace = self.namespace.replace("%", "%25").replace(";", "%3B")
        return f"{self.kind}={text}" if self.namespace == STANDARD else f"nsu={namespace};{self.kind}={text}"


@dataclass(frozen=True, slots=True)
class PathAddress:
    """A node by the names that lead to it from the root (OPC 10000-4, 5.9.4).

    Attributes:
        steps: (namespace, name) of each browse name; the namespace as in `NodeAddress`.
    """

    steps: tuple[tuple[str, str], ...]

    def within(self, namespaces: Mapping[str, str]) -> PathAddress:
        """The same with its namespaces by URI. Raises ValueError where a short name stands for none."""
        return PathAddress(tuple((_uri(space, namespaces, str(self)), name) for space, name in self.steps))

    def __str__(self) -> str:
        return "".join(f"/{_prefix(namespace)}{_escape(name)}" for namespace, name in self.steps)


Address = NodeAddress | PathAddress


def parse_address(text: str) -> Address:
    """The address that `text` spells, or ValueError with a sentence that says what to write."""
    if text.startswith("/"):
        return PathAddress(tuple(_steps(text)))
    match = _NODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not the address of a node; write {_EXAMPLES}")
    kind = cast("Kind", match["kind"])
    return NodeAddress(_namespace(match, text), kind, _identifier(kind, match["identifier"], text))


def is_uri(namespace: str) -> bool:
    """Whether this is the URI of a namespace rather than a short name for one."""
    return ":" in namespace


def _namespace(match: re.Match[str], text: str) -> str:
    how, namespace = match["how"], match["namespace"]
    if how is None or (how == "ns" and namespace == "0"):
        return STANDARD
    if how == "ns":
        raise ValueError(
            f"{text!r}: the index of a namespace can be another one after a restart of the server; "
            f'write its URI instead: "nsu=http://vendor.example/x;{match["kind"]}={match["identifier"]}"'
        )
    if not namespace:
        raise ValueError(f"{text!r} names no namespace; write {_EXAMPLES}")
    return namespace.replace("%3B", ";").replace("%3b", ";").replace("%25", "%")


def _identifier(kind: Kind, text: str, address: str) -> int | str | UUID | bytes:
    if kind == "s":
        if not text:
            raise ValueError(f"{address!r}: the identifier is empty")
        return text
    if kind == "i":
        if not (text.isascii() and text.isdigit() and int(text) < _NUMERIC_LIMIT):
            raise ValueError(f"{address!r}: i= needs a number from 0 to {_NUMERIC_LIMIT - 1}, got {text!r}")
        return int(text)
    try:
        return UUID(text) if kind == "g" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        what = "a GUID such as 72962b91-fa75-4ae6-8d28-b404dc7daf63" if kind == "g" else "Base64"
        raise ValueError(f"{address!r}: {kind}= needs {what}, got {text!r}") from None


def _steps(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _STEP.match(text, at + 1) if text[at] == "/" else None
        if match is None:
            raise ValueError(f"{text!r} has an empty or unfinished name after {text[:at]!r}; write {_EXAMPLES}")
        yield _step_namespace(match, text), _unescape(match["name"])
        at = match.end()


def _step_namespace(match: re.Match[str], text: str) -> str:
    if match["uri"] is not None:
        if not match["uri"]:
            raise ValueError(f"{text!r} has empty braces; between them goes the URI of a namespace")
        return match["uri"]
    short = match["short"]
    if short is None or short == "0":
        return STANDARD
    if short.isdigit():
        raise ValueError(
            f"{text!r}: the index of a namespace can be another one after a restart of the server; "
            f'write its URI instead: "{{http://vendor.example/x}}{match["name"]}"'
        )
    return _unescape(short)


def _uri(namespace: str, namespaces: Mapping[str, str], address: str) -> str:
    if namespace in namespaces:
        return namespaces[namespace]
    # Some servers have namespaces that are no URIs: one that the settings name is taken as it is.
    if is_uri(namespace) or namespace in namespaces.values():
        return namespace
    known = f"there are {', '.join(namespaces)}" if namespaces else "there are none"
    raise ValueError(
        f"{address!r}: {namespace!r} is neither a URI nor a short name from the device's `namespaces` ({known}); "
        f"if the server really calls a namespace so, say `namespaces: {{x: {namespace}}}`"
    )


def _prefix(namespace: str) -> str:
    if namespace == STANDARD:
        return ""
    return f"{{{namespace}}}" if is_uri(namespace) else f"{namespace}:"


def _escape(name: str) -> str:
    return re.sub(r"([&/:{}])", r"&\1", name)


def _unescape(name: str) -> str:
    return _ESCAPED.sub(r"\1", name)
