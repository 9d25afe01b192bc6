"""A device put into a configuration as text: comments and every other byte of the file stay.

The lines go to the end of the list `devices`, with its indentation. What came of it is parsed again and compared: it
has to be what was there and the device, and nothing else. Where it is not, as in a list in brackets, nothing is
inserted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.config.export import yaml
from edge.config.files import Source
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


def file_for_devices(source: Source) -> Path:
    """The file that a new device goes into: the last of a directory with devices."""
    for name in reversed(source.names):
        root, _ = parse((source.folder / name).read_bytes(), name)
        if root is not None and root["devices"] is not None:
            return source.folder / name
    return source.folder / source.names[0]


def insert(data: bytes, file: str, *devices: NewDevice) -> bytes | None:
    """The text of a file with more devices, None where they cannot be inserted. Raises ConfigError."""
    root, problems = parse(data, file)
    if problems:
        raise ConfigError(problems)
    text = data.decode()
    lines = text.splitlines(keepends=True)
    at, block = _place(root, lines, devices)
    end = "\r\n" if "\r\n" in text else "\n"
    is_open = at > 0 and lines[at - 1] == lines[at - 1].rstrip("\r\n")
    new = "".join([*lines[:at], end * is_open, *(line + end for line in block), *lines[at:]]).encode()
    return new if _is_only_more(root, new, devices) else None


def _place(root: Node | None, lines: Sequence[str], new: Sequence[NewDevice]) -> tuple[int, list[str]]:
    """Before which line, and what."""
    devices = root["devices"] if root else None
    if root is None or devices is None:
        return len(lines), ["devices:", *(line for each in new for line in each.lines(_INDENT))]
    line = devices.items[-1].mark.line if devices.items else root.keys["devices"].line
    dash = _DASH.match(lines[line - 1])
    indent = len(dash[1]) if dash else _INDENT
    later = [mark.line for mark in root.keys.values() if mark.line > root.keys["devices"].line]
    at = min(later, default=len(lines) + 1) - 1
    while at > line and _is_between(lines[at - 1], indent):
        at -= 1
    above = next((text for text in reversed(lines[: line - 1]) if not text.lstrip().startswith("#")), "")
    is_apart = len(devices.items) > 1 and not above.strip()
    return at, [text for each in new for text in [*[""] * is_apart, *each.lines(indent)]]


def _is_between(line: str, indent: int) -> bool:
    """Whether a line is blank, or a comment that does not belong to the item above it."""
    rest = line.lstrip()
    return not rest or (rest.startswith("#") and len(line) - len(rest) <= indent)


def _is_only_more(root: Node | None, new: bytes, devices: Sequence[NewDevice]) -> bool:
    """Whether a new text is what was there, and the devices behind the others."""
    again, problems = parse(new, "")
    before = root.plain() if root else {}
    if problems or again is None or not isinstance(before, dict):
        return False
    more = [device.node.plain() for device in devices]
    return bool(again.plain() == {**before, "devices": [*(before.get("devices") or []), *more]})
