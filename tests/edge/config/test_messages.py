from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from edge.config.validate import validate
from edge.config.yaml_tree import parse
from edge.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Choice(Settings):
    policy: Literal["strong", "stronger"]
    """How strong."""


@dataclass(frozen=True, kw_only=True)
class Choices(Settings):
    security: Literal["none"] | Choice
    """How it is protected: by a policy, or the word none, which lets anyone
    read it. The rest of this is for the reference page."""
    baud: Literal[1200, 2400] = 1200
    """Bits per second."""
    slot: int | None = None
    """Which slot."""
    route: str | None = None
    """Or the way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slot is not None and self.route is not None:
            raise ValueError("slot and route exclude each other")


MEANT = "How it is protected: by a policy, or the word none, which lets anyone read it"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", f"f:1:1: security: is missing: {MEANT}"),
        ("{security: off}", f"f:1:12: security: 'off' does not fit: {MEANT}"),
        ("{security: {policy: strongest}}",
         "f:1:21: security.policy: must be one of strong, stronger, got 'strongest'; did you mean stronger?"),
        ("{security: {}}", "f:1:12: security.policy: is missing: How strong"),
        ("{security: none, baud: 1201}", "f:1:24: baud: must be one of 1200, 2400, got 1201"),
        ("{security: none, slot: 1, route: a}", "f:1:24: slot: slot and route exclude each other"),
    ],
)  # fmt: skip
def test_a_choice_is_explained_in_one_whole_sentence(text: str, problem: str) -> None:
    """A value that can be a word or keys is one mistake, and what is wrong in the keys says more."""
    root, _ = parse(text.encode(), "f")
    assert root is not None

    _, problems = validate(Choices, root, None)

    assert [str(each) for each in problems] == [problem]
