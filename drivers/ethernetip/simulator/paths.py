"""Padded paths: which object, which tag, which element (CIP Vol 1 appendix C-1; 1756-PM020, "CIP addressing")."""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivers.ethernetip.simulator.codes import CipError, Status, unknown_name

_LOGICAL = {0x20: "class", 0x24: "instance", 0x28: "element", 0x2C: "point", 0x30: "attribute"}
_WIDTHS = (1, 2, 4)
_SYMBOL = 0x91
_TOKEN = re.compile(r"(Program:\w+|[A-Za-z_]\w*(?::\w+)*)|\[([\d,\s]+)\]")

Step = str | int
"""A name, or the number of an element."""


@dataclass(frozen=True, slots=True)
class Path:
    """A request path.

    Attributes:
        steps: names and elements, in order, without what `class_` and `instance` say.
        program: the name before a class, for symbols in the scope of a program.
    """

    class_: int | None = None
    instance: int | None = None
    attribute: int | None = None
    program: str = ""
    steps: tuple[Step, ...] = ()


def parse(data: bytes) -> Path:
    """The path in these bytes. Raises CipError where a controller would not understand it."""
    logical: dict[str, int] = {}
    program = ""
    steps: list[Step] = []
    at = 0
    while at < len(data):
        kind, value, at = _segment(data, at)
        if kind in ("symbol", "element"):
            if kind == "element" and not steps and logical.get("class") is None:
                raise unknown_name()
            steps.append(value)
            continue
        if kind == "class" and steps:
            if logical or len(steps) > 1:
                raise unknown_name()
            program = str(steps.pop())
        if kind in logical or not isinstance(value, int) or (kind != "class" and "class" not in logical):
            raise unknown_name()
        logical[kind] = value
    return Path(logical.get("class"), logical.get("instance"), logical.get("attribute"), program, tuple(steps))


def _segment(data: bytes, at: int) -> tuple[str, Step, int]:
    first = data[at]
    if first == _SYMBOL:
        return _symbol(data, at)
    width_code, kind = first & 3, _LOGICAL.get(first & 0xFC)
    if kind is None or width_code > 2 or (width_code == 2 and kind not in ("instance", "element")):
        raise unknown_name()
    width = _WIDTHS[width_code]
    begin = at + (1 if width == 1 else 2)
    end = begin + width
    if end > len(data):
        raise CipError(Status.PATH_SIZE_INVALID)
    if width > 1 and data[at + 1]:
        raise unknown_name()
    return kind, int.from_bytes(data[begin:end], "little"), end


def _symbol(data: bytes, at: int) -> tuple[str, Step, int]:
    if at + 2 > len(data):
        raise CipError(Status.PATH_SIZE_INVALID)
    length = data[at + 1]
    end = at + 2 + length
    padded = end + length % 2
    if padded > len(data):
        raise CipError(Status.PATH_SIZE_INVALID)
    if not length or (length % 2 and data[end]):
        raise unknown_name()
    return "symbol", data[at + 2 : end].decode("latin-1"), padded


def parse_text(text: str) -> tuple[Step, ...]:
    """The steps of a tag as an engineer writes it: `Program:Main.Motors[3].Speed`."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise KeyError(f"{text!r} is no tag: column {at + 1} is not understood")
        name, elements = token.groups()
        steps += [name] if name else [int(number) for number in elements.split(",")]
        at = token.end()
        if at < len(text) and text[at] == ".":
            at += 1
    return tuple(steps)
