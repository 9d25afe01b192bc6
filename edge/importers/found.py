"""What an importer makes of a file: tags, what it left out or changed, and what the format does not say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from edge.driver import Origin, SourceTag
from edge.errors import ConfigError, Problem

Kind = Literal["left out", "changed", "suspicious"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know about a tag or a place in the file.

    Attributes:
        kind: left out: not imported; changed: written in another way; suspicious: imported, and worth a look.
        name: of the tag, where it has one.
        message: the reason, or the rule.
    """

    kind: Kind
    origin: Origin
    name: str = ""
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.name + ': ' if self.name else ''}{self.kind}: {self.message}"


@dataclass(slots=True)
class Found:
    """The tags of one file.

    Attributes:
        format: the format of the file, in words.
        notes: what the format does not say, or what is never imported, once for the file.
        hidden: names whose rows are hidden: these tags neither change nor go.
    """

    format: str
    tags: list[SourceTag] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def left_out(self, origin: Origin, message: str, name: str = "") -> None:
        """Remember that something was not imported, and why."""
        self.findings.append(Finding(kind="left out", origin=origin, name=name, message=message))

    def changed(self, origin: Origin, message: str, name: str = "") -> None:
        """Remember that something is written in another way, and by which rule."""
        self.findings.append(Finding(kind="changed", origin=origin, name=name, message=message))

    def suspicious(self, origin: Origin, message: str, name: str = "") -> None:
        """Remember that something was imported and may be wrong."""
        self.findings.append(Finding(kind="suspicious", origin=origin, name=name, message=message))

    def note(self, text: str) -> None:
        """Say something about the whole file, once."""
        if text not in self.notes:
            self.notes.append(text)


def unreadable(file: str, message: str) -> ConfigError:
    """The error of a file of which nothing can be imported."""
    return ConfigError([Problem(message, file)])


def linear(raw: tuple[float, float], scaled: tuple[float, float]) -> dict[str, Any]:
    """The keys of a line through two points. Raises ValueError where there is none."""
    if raw[0] == raw[1] or scaled[0] == scaled[1]:
        raise ValueError(f"its scaling from {raw[0]:g}..{raw[1]:g} to {scaled[0]:g}..{scaled[1]:g} is no line")
    scale = (scaled[1] - scaled[0]) / (raw[1] - raw[0])
    offset = scaled[0] - raw[0] * scale
    return {key: value for key, value in (("scale", scale), ("offset", offset)) if value != (key == "scale")}


def number(text: str) -> float:
    """A number, also with a decimal comma. Raises ValueError."""
    try:
        return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def whole(text: str, default: int) -> int:
    """A whole number from 0 on, or what stands for one that cannot be read."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default


def one_line(texts: Iterable[str], limit: int = 1000) -> str:
    """Texts as one description: without line breaks, and as long as a description may be."""
    return " ".join(" ".join(texts).split())[:limit]
