"""A device put into a configuration as text: comments and every other byte of the file stay.

The lines go to the end of the list `devices`, with its indentation. What came of it is parsed again and compared: it
has to be what was there and the device, and nothing else. Where it is not, as in a list in brackets, nothing is
inserted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.config.export import yaml
from edge.config.yaml_tree import Node, parse
from edge.errors import ConfigError

_DASH = re.compile(r"( *)- +")
_INDENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice:
    """A device with one scan group.

    Attributes:
        what: one line about it, as a comment; may be empty.
        keys: without scan groups.
        every: interval of the scan group.
        table: for `tags_from`; empty where the tags are written beside it.
    """

    what: str
    keys: Mapping[str, Any]
    every: str
    table: str = ""
    tags: Sequence[Mapping[str, Any]] = field(default=())

    def lines(self, indent: int) -> list[str]:
        """An item of the list `devices`, in block style; lists are indented by so much below their keys."""
        dash, key = " " * indent, " " * (indent + 2)
        first, *others = [f"{name}: {yaml(value)}" for name, value in self.keys.items()]
        comment = [f"{dash}# {self.what}"] if self.what else []
        group = [f"{key}scan_groups:", f"{key}{dash}- every: {yaml(self.every)}"]
        if self.table:
            group.append(f"{key}{dash}  tags_from: {yaml(self.table)}")
        else:
            group += [f"{key}{dash}  tags:", *(f"{key}{dash}  {dash}- {yaml(tag)}" for tag in self.tags)]
        return [*comment, f"{dash}- {first}", *(f"{key}{other}" for other in others), *group]

    @property
    def text(self) -> str:
        """A list `devices` of it alone."""
        return "\n".join(["devices:", *self.lines(_INDENT), ""])

    @property
    def node(self) -> Node:
        """The device as a file has it. Raises ConfigError."""
        root, problems = parse(self.text.encode(), "")
        if root is None or root["devices"] is None or problems:
            raise ConfigError(problems)
        return root["devices"].items[0]


def insert(data: bytes, file: str, device: NewDevice) -> bytes | None:
    """The text of a file with one more device, None where it cannot be inserted. Raises ConfigError."""
    root, problems = parse(data, file)
    if problems:
        raise ConfigError(problems)
    text = data.decode()
    lines = text.splitlines(keepends=True)
    at, block = _place(root, lines, device)
    end = "\r\n" if "\r\n" in text else "\n"
    is_open = at > 0 and lines[at - 1] == lines[at - 1].rstrip("\r\n")
    new = "".join([*lines[:at], end * is_open, *(line + end for line in block), *lines[at:]]).encode()
    return new if _is_only_more(root, new, device) else None


def _place(root: Node | None, lines: Sequence[str], device: NewDevice) -> tuple[int, list[str]]:
    """Before which line, and what."""
    devices = root["devices"] if root else None
    if root is None or devices is None:
        return len(lines), device.text.splitlines()
    line = devices.items[-1].mark.line if devices.items else root.keys["devices"].line
    dash = _DASH.match(lines[line - 1])
    indent = len(dash[1]) if dash else _INDENT
    later = [mark.line for mark in root.keys.values() if mark.line > root.keys["devices"].line]
    at = min(later, default=len(lines) + 1) - 1
    while at > line and _is_between(lines[at - 1], indent):
        at -= 1
    is_apart = len(devices.items) > 1 and not lines[line - 2].strip()
    return at, [*[""] * is_apart, *device.lines(indent)]


def _is_between(line: str, indent: int) -> bool:
    """Whether a line is blank, or a comment that does not belong to the item above it."""
    rest = line.lstrip()
    return not rest or (rest.startswith("#") and len(line) - len(rest) <= indent)


def _is_only_more(root: Node | None, new: bytes, device: NewDevice) -> bool:
    """Whether a new text is what was there, and the device behind the others."""
    again, problems = parse(new, "")
    before = root.plain() if root else {}
    if problems or again is None or not isinstance(before, dict):
        return False
    return bool(again.plain() == {**before, "devices": [*(before.get("devices") or []), device.node.plain()]})
