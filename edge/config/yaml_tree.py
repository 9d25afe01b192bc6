"""Strict YAML 1.2 with line and column of every node.

The text is read event by event, so that a hostile file (deep nesting, anchors that multiply) is rejected before it
uses memory, and one mistake does not hide others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from edge.errors import Problem

Scalar = str | int | float | bool | None

_DEPTH = 32
_NODES = 1_000_000
_NUMBER_LENGTH = 100  # A longer one is treated as text.
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_MESSAGES = {
    "mapping values are not allowed here": "this colon starts a second value; quote the text or check the indentation",
    "found unexpected end of stream": "a quote is opened and never closed",
    "could not find expected ':'": "a key without a colon; check the indentation and the colon after the key",
    "expected <block end>, but found '?'": "this line does not fit the indentation of the lines above",
    "expected <block end>, but found '-'": "this list item does not fit the indentation of the lines above",
    "expected ',' or ']', but got": "the list in [ ] is not closed, or a comma is missing",
    "expected ',' or '}', but got": "the keys in { } are not closed, or a comma is missing",
    "expected the node content": "a list or a key ends before its value",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1


@dataclass(slots=True, eq=False)
class Node:
    """A value and its position.

    `dropped` are keys with a known mistake, which are not reported as missing. A node with `placeholders` replaces a
    missing value and has more values to try; its mistakes are not reported.
    """

    content: Scalar | list[Node] | dict[str, Node]
    mark: Mark
    path: str = ""
    keys: dict[str, Mark] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    size: int = 1
    placeholders: list[Any] | None = None

    def __getitem__(self, key: str) -> Node | None:
        return self.content.get(key) if isinstance(self.content, dict) else None

    @property
    def items(self) -> Sequence[Node]:
        """The items of a list; empty for any other value."""
        return self.content if isinstance(self.content, list) else ()

    @property
    def text(self) -> str | None:
        """The value if it is a text, else None."""
        return self.content if isinstance(self.content, str) else None

    def inside(self, key: str) -> str:
        """The path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.content, dict):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.plain() for node in self.content]
        return self.content

    def problem(self, message: str) -> Problem:
        """A problem at this node."""
        return problem_at(self.mark, message, self.path)


def problem_at(mark: Mark, message: str, path: str = "") -> Problem:
    """A problem at a position."""
    return Problem(message, mark.file, mark.line, mark.column, path)


def scalar_of(text: str) -> Scalar:
    """The value of an unquoted word in the core schema of YAML 1.2.2, section 10.3.2."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _NUMBER_LENGTH or not text.isascii():
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def parse(data: bytes, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree of a YAML file, None if it cannot be parsed, and the problems of its syntax."""
    text = decode(data, file)
    if isinstance(text, Problem):
        return None, [text]
    composer = _Composer(text, file)
    try:
        return composer.document(), composer.problems
    except _Abort as stop:
        return None, [*composer.problems, stop.problem]


def decode(data: bytes, file: str) -> str | Problem:
    """The text of a file in UTF-8, or the problem of its encoding."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return problem_at(Mark(file), "the file is in UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        return problem_at(_mark_after(before, file), "the file is not in UTF-8 here; save it as UTF-8")


def _mark_after(text: str, file: str) -> Mark:
    return Mark(file, text.count("\n") + 1, len(text) - text.rfind("\n"))


class _Abort(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Composer:
    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._events = self._parse()
        self._nodes = 0

    def document(self) -> Node | None:
        """The only document of the file; None if it is empty."""
        root = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise _Abort(problem_at(self._mark(event), "a second document starts here; one file holds one"))
                root = self._node(next(self._events), "", 0)
        return root

    def _parse(self) -> Iterator[Event]:
        try:
            yield from YAML(typ="safe", pure=True).parse(self._text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = Mark(self._file, mark.line + 1, mark.column + 1) if mark else Mark(self._file)
            raise _Abort(problem_at(at, _message(error))) from error
        except ReaderError as error:
            at = _mark_after(self._text[: error.position], self._file)
            code = error.character if isinstance(error.character, int) else ord(error.character)
            raise _Abort(problem_at(at, f"the character U+{code:04X} may not be in a YAML file")) from error
        except (ValueError, OverflowError, AssertionError) as error:  # Escapes beyond Unicode, unknown directives.
            raise _Abort(problem_at(Mark(self._file), f"this is not YAML: {error}")) from error

    def _mark(self, event: Event) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _count(self, mark: Mark, size: int) -> None:
        self._nodes += size
        if self._nodes > _NODES:
            raise _Abort(problem_at(mark, f"the file holds more than {_NODES} values; are anchors multiplying?"))

    def _node(self, event: Event, path: str, depth: int) -> Node:
        mark = self._mark(event)
        if depth > _DEPTH:
            raise _Abort(problem_at(mark, f"nested deeper than {_DEPTH} levels"))
        if isinstance(event, AliasEvent):
            return self._alias(event, mark, path)
        self._count(mark, 1)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        if event.tag is not None:
            self.problems.append(problem_at(mark, f"tags such as {event.tag} are not used here; write the value", path))
        before = self._nodes
        if isinstance(event, ScalarEvent):
            node = Node(self._scalar(event, mark, path), mark, path)
        elif isinstance(event, MappingStartEvent):
            node = self._mapping(mark, path, depth)
        else:
            node = self._sequence(mark, path, depth)
        node.size = self._nodes - before + 1
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, mark: Mark, path: str) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise _Abort(problem_at(mark, f"no &{event.anchor} is complete before this *{event.anchor}", path))
        self._count(mark, node.size)
        return node

    def _scalar(self, event: ScalarEvent, mark: Mark, path: str) -> Scalar:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise _Abort(problem_at(mark, "half a surrogate pair is not a character", path))
        return scalar_of(text) if event.style is None else text

    def _sequence(self, mark: Mark, path: str, depth: int) -> Node:
        items: list[Node] = []
        while isinstance(event := next(self._events), NodeEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Node(items, mark, path)

    def _mapping(self, mark: Mark, path: str, depth: int) -> Node:
        node = Node({}, mark, path)
        assert isinstance(node.content, dict)
        while isinstance(event := next(self._events), NodeEvent):
            key_mark = self._mark(event)
            key = self._key(event, path, depth)
            if key is None:
                self._node(next(self._events), path, depth + 1)
                continue
            value = self._node(next(self._events), node.inside(key), depth + 1)
            if key in node.content:
                first = node.keys[key].line
                self.problems.append(problem_at(key_mark, f"is already written on line {first}", node.inside(key)))
                continue
            node.keys[key] = key_mark
            node.content[key] = value
        return node

    def _key(self, event: Event, path: str, depth: int) -> str | None:
        mark = self._mark(event)
        if isinstance(event, ScalarEvent) and event.tag is None:
            self._count(mark, 1)
            key: str = event.value
            if key.isprintable():
                return key
        elif isinstance(event, CollectionStartEvent | AliasEvent | ScalarEvent):
            self._node(event, path, depth + 1)
        self.problems.append(problem_at(mark, "a key must be a plain word", path))
        return None


def _message(error: MarkedYAMLError) -> str:
    problem = error.problem or error.context or "unreadable"
    if r"'\t'" in problem:
        return "a tab stands here; YAML is indented with spaces only"
    for known, message in _MESSAGES.items():
        if problem.startswith(known):
            return message
    return f"this is not YAML: {problem}" + (f" {error.context}" if error.context and error.problem else "")
