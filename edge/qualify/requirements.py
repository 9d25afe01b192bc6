"""The requirements: what has to hold where Tidegate is used in production, and what goes wrong where it does not."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

from ruamel.yaml import YAML

Severity = Literal["high", "medium", "low"]


class Requirement(NamedTuple):
    """One sentence that can be tested.

    Attributes:
        id: `REQ-`, the key of its group, and a number; it stays for ever.
        group: what it is about, in words.
        text: what has to hold.
        risk: what goes wrong at the plant where it does not.
        severity: how bad that is.
        planned: its tests are not there yet.
    """

    id: str
    group: str
    text: str
    risk: str
    severity: Severity
    planned: bool = False


@cache
def requirements() -> dict[str, Requirement]:
    """All of them by id, in the order of their groups; raises ValueError for a file that is not as it should be."""
    found: dict[str, Requirement] = {}
    group = ""
    for row in YAML(typ="safe").load(files(__package__).joinpath("requirements.yaml").read_text(encoding="utf-8")):
        if "group" in row:
            group = row["group"]
            continue
        one = Requirement(group=group, **row)
        if one.id in found or one.severity not in get_args(Severity):
            raise ValueError(f"{one.id}: stands there twice, or its severity is not one of {get_args(Severity)}")
        found[one.id] = one
    return found
