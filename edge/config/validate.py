"""Validate a tree into settings, with one message for each mistake.

Invalid values are removed, missing ones replaced, and the rest is validated again, so that one mistake does not
hide another: checks over several keys of a tag run even if one of its other keys is misspelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from edge.config import messages
from edge.config.fields import Field, fields_of, settings_in
from edge.config.yaml_tree import Node, problem_at
from edge.errors import Problem
from edge.settings import Settings

SettingsT = TypeVar("SettingsT", bound=Settings)

_ROUNDS = 50  # Each repairs one level, or removes one of the tags that a device rejects one by one.
PLACEHOLDERS = ("unnamed", "1 h", 1)
"""Values in place of a missing one; one of them is valid for most keys."""
_UNKNOWN = "unexpected_keyword_argument"
_TAG = re.compile(r"tag (.+?): ")


def settings_from(cls: type[SettingsT], written: Mapping[str, Any], folder: Path | None = None) -> SettingsT:
    """Settings from keys and values of a configuration in this folder.

    Without a folder, the files that they refer to need not exist.

    Raises:
        pydantic.ValidationError: they are invalid.
    """
    text = to_json(written, inf_nan_mode="constants")
    return _adapter(cls).validate_json(text, context=None if folder is None else {"folder": folder})


TypeAdapter(int)  # The first adapter searches installed packages for plugins: do that now, not in an event loop.
_adapters: dict[type[Settings], TypeAdapter[Any]] = {}


def _adapter(cls: type[SettingsT]) -> TypeAdapter[SettingsT]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


def validate(cls: type[SettingsT], node: Node, context: Any) -> tuple[SettingsT | None, list[Problem]]:
    """The settings from the valid part of the tree, and every problem; invalid nodes are removed from the tree."""
    problems: list[Problem] = []
    for _ in range(_ROUNDS):
        try:
            text = to_json(node.plain(), inf_nan_mode="constants")
            return _adapter(cls).validate_json(text, context=context), list(dict.fromkeys(problems))
        except ValidationError as error:
            mistakes = list(_mistakes(cls, node, error.errors(include_url=False)))
        for mistake in mistakes:
            mistake.mark_misspelled()
        problems += [problem for mistake in mistakes if (problem := mistake.problem())]
        if not _repair(mistakes):
            break
    return None, list(dict.fromkeys(problems))


@dataclass(slots=True)
class _Mistake:
    """One error of pydantic with its node in the file.

    `trail` is the path from the root to the node; `key` is the missing or unknown key in it.
    """

    kind: str
    errors: list[ErrorDetails]
    trail: list[tuple[Node, str | int]]
    node: Node
    field: Field | None
    known_keys: tuple[str, ...]
    key: str = ""

    def mark_misspelled(self) -> None:
        """Keep a misspelled key from being reported as missing too."""
        if self.kind == _UNKNOWN and (meant := messages.did_you_mean(self.key, self.known_keys)):
            self.node.dropped.add(meant)

    def problem(self) -> Problem | None:
        """The problem to report; None if it is a consequence of another."""
        if self.node.placeholders is not None or self._is_about_dropped():
            return None
        if self.kind == "missing" and self.key:
            if self.key in self.node.dropped:
                return None
            return problem_at(self.node.mark, messages.missing(self.field), self.node.inside(self.key))
        if self.kind == _UNKNOWN:
            mark = self.node.keys[self.key]
            return problem_at(mark, messages.unknown_key(self.key, self.known_keys), self.node.inside(self.key))
        name = str(self.trail[-1][1]) if self.trail else ""
        return self.node.problem(messages.of_errors(self.errors, self.field, name))

    def _is_about_dropped(self) -> bool:
        """Whether it is an error only because something was removed."""
        if self.kind == "too_short" and self.node.dropped:
            return True
        nodes = [self.node, *(parent for parent, _ in self.trail[-1:])]
        mentioned = set(re.findall(r"\w+", messages.sentence(self.errors[0]))) if self.kind == "value_error" else set()
        return any(node.dropped & mentioned for node in nodes)


def _mistakes(cls: type[Settings], root: Node, errors: Sequence[ErrorDetails]) -> Iterator[_Mistake]:
    unions: dict[int, _Mistake] = {}
    reported: set[int] = set()
    for error in errors:
        mistake, is_inside_union = _locate(cls, root, error)
        if mistake.kind == "too_short" and len(mistake.node.items) >= error["ctx"]["min_length"]:
            continue  # Only because some of its items are invalid.
        if not is_inside_union:
            reported |= {id(parent) for parent, _ in mistake.trail} | ({id(mistake.node)} if mistake.key else set())
            yield mistake
        elif (first := unions.get(id(mistake.node))) is not None:
            first.errors += mistake.errors
        else:
            unions[id(mistake.node)] = mistake
    # In a union of a mapping and a word, the mistakes inside the mapping are more useful than the mismatch.
    reported |= {id(parent) for union in unions.values() for parent, _ in union.trail}
    yield from (union for union in unions.values() if id(union.node) not in reported)


def _locate(cls: type[Settings], root: Node, error: ErrorDetails) -> tuple[_Mistake, bool]:
    kind, loc = error["type"], list(error["loc"])
    key = str(loc.pop()) if kind in ("missing", _UNKNOWN) and isinstance(loc[-1], str) else ""
    node, trail, is_inside_union = root, [], False
    classes: list[type[Settings]] = [cls]
    field: Field | None = None
    for step in loc:
        below = _below(node, step)
        if below is None:
            is_inside_union = True  # The step is the name of a branch of a union.
            continue
        trail.append((node, step))
        if isinstance(step, str):
            field = next((fields_of(known)[step] for known in classes if step in fields_of(known)), None)
            classes = list(settings_in(field.annotation)) if field else []
        node = below
    if kind == "value_error" and isinstance(node.content, dict):
        node, key_meant = _locate_check(node, error, trail)
        field = next((fields_of(known)[key_meant] for known in classes if key_meant in fields_of(known)), field)
    known_keys = tuple(name for known in classes for name in fields_of(known))
    if kind == "missing":
        field = next((fields_of(known)[key] for known in classes if key in fields_of(known)), None)
    return _Mistake(kind, [error], trail, node, field, known_keys, key), is_inside_union and not key


def _below(node: Node, step: str | int) -> Node | None:
    if isinstance(step, int):
        return node.items[step] if step < len(node.items) else None
    return node[step]


def _locate_check(node: Node, error: ErrorDetails, trail: list[tuple[Node, str | int]]) -> tuple[Node, str]:
    """Node and key of a check over several keys: its message starts with "tag NAME: ", a key, or a value."""
    sentence = messages.sentence(error)
    if (match := _TAG.match(sentence)) and (steps := _steps_to_tag(node, match[1])):
        trail += steps
        parent, number = steps[-1]
        return parent.items[int(number)], ""
    assert isinstance(node.content, dict)
    for key, below in node.content.items():
        if sentence.startswith(f"{key} ") or (below.text and sentence.startswith(repr(below.text))):
            trail.append((node, key))
            return below, key
    return node, ""


def _steps_to_tag(device: Node, name: str) -> list[tuple[Node, str | int]]:
    groups = device["scan_groups"]
    for group in groups.items if groups else ():
        tags = group["tags"]
        for number, tag in enumerate(tags.items if tags else ()):
            if tags is not None and (node := tag["name"]) and node.text == name:
                return [(tags, number)]
    return []


def _repair(mistakes: Sequence[_Mistake]) -> bool:
    """Remove invalid values and replace missing ones. Returns False if nothing could be changed."""
    removed: list[tuple[Node, str | int, Node]] = []
    is_changed = False
    for mistake in mistakes:
        node, key, trail = mistake.node, mistake.key, mistake.trail
        if mistake.kind == _UNKNOWN:
            removed.append((node, key, node))
        elif key and isinstance(node.content, dict):
            node.dropped.add(key)
            node.content[key] = Node(None, node.mark, node.inside(key), placeholders=[*PLACEHOLDERS])
            is_changed = True
        elif node.placeholders:
            node.content = node.placeholders.pop(0)
            is_changed = True
        elif node.placeholders is not None and len(trail) > 1:
            removed.append((*trail[-2], trail[-1][0]))
        elif trail and node.placeholders is None:
            removed.append((*trail[-1], node))
    lists: dict[int, tuple[Node, set[int]]] = {}
    for parent, step, node in removed:
        if isinstance(parent.content, dict):
            parent.dropped.add(str(step))
            parent.content.pop(str(step), None)
        else:
            parent.dropped.add("")  # Items have no names.
            lists.setdefault(id(parent), (parent, set()))[1].add(id(node))
    for parent, ids in lists.values():
        parent.content = [node for node in parent.items if id(node) not in ids]
    return is_changed or bool(removed)
