"""Scorecards of drivers: the rules that a driver fulfils, its further claims, and what it was tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from edge.config.validate import validate
from edge.config.yaml_tree import parse
from edge.driver import GROUP
from edge.errors import ConfigError
from edge.settings import MinLen, Settings

Sentence = Annotated[str, MinLen(3)]


@dataclass(frozen=True, kw_only=True)
class OpenRule(Settings):
    """A rule that the driver does not fulfil."""

    exempt: Sentence | None = None
    """Why it cannot be fulfilled, or does not apply."""
    todo: Sentence | None = None
    """What is missing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.exempt is None) == (self.todo is None):
            raise ValueError("write done, {exempt: why}, or {todo: what is missing}")


@dataclass(frozen=True, kw_only=True)
class Claim(Settings):
    """Something that this driver promises besides the rules."""

    claim: Sentence
    """The promise."""
    proof: Annotated[Sequence[str], MinLen(1)]
    """Test files that prove it, from the top of the repository."""


@dataclass(frozen=True, kw_only=True)
class TestedWith(Settings):
    """Software or a device that the driver was tested with."""

    name: str
    """What it is called."""
    version: str
    """Its version, or its firmware's."""


@dataclass(frozen=True, kw_only=True)
class Scorecard(Settings):
    """What is known about one driver."""

    driver: Annotated[str, MinLen(1)]
    """Its name in a configuration."""
    protocol: str
    """The protocol, and the edition of its standard."""
    rules: Mapping[str, Literal["done"] | OpenRule]
    """Every rule of the conformance suite: done (the suite proves it), exempt with a reason, or todo."""
    claims: Sequence[Claim] = ()
    """What it promises besides the rules."""
    peers: Sequence[TestedWith] = ()
    """Implementations by others that its tests talk to."""
    hardware: Sequence[TestedWith] = ()
    """Devices that it was tested with."""

    def standing(self, rule_id: str) -> Literal["done", "exempt", "todo", ""]:
        """The state of a rule on this card; empty if the rule is missing."""
        match self.rules.get(rule_id):
            case OpenRule(todo=None):
                return "exempt"
            case OpenRule():
                return "todo"
            case None:
                return ""
        return "done"


def scorecard_path(driver: str) -> Path:
    """The file `scorecard.yaml` in the folder of an installed driver."""
    (entry,) = entry_points(group=GROUP, name=driver)
    spec = find_spec(entry.module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "scorecard.yaml"


def read(path: Path) -> Scorecard:
    """The scorecard in a file. Raises ConfigError with file, line and column of every problem."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    node, problems = parse(data, str(path))
    if node is None or problems:
        raise ConfigError(problems)
    card, problems = validate(Scorecard, node, None)
    if card is None or problems:
        raise ConfigError(problems)
    return card
