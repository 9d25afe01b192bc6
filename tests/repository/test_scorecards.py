"""Every driver has a scorecard, and every card is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.driver import installed
from edge.errors import ConfigError
from edge.testing.conformance import RULES
from edge.testing.conformance.scorecard import OpenRule, Scorecard, read, scorecard_path
from tests.support.subjects import SUBJECTS

ROOT = Path(__file__).parents[2]
DRIVERS = installed()


@pytest.fixture(params=DRIVERS)
def card(request: pytest.FixtureRequest) -> Scorecard:
    return read(scorecard_path(request.param))


def test_a_card_names_every_rule_and_no_other(card: Scorecard) -> None:
    assert sorted(card.rules) == sorted(RULES)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_card_is_of_its_driver(name: str) -> None:
    assert read(scorecard_path(name)).driver == name


def test_what_is_done_is_run(card: Scorecard) -> None:
    """The suite tries what a card calls done; it can only try a driver that brings a subject."""
    done = [rule_id for rule_id in card.rules if card.standing(rule_id) == "done"]

    assert done == [] or card.driver in SUBJECTS


def test_every_proof_exists(card: Scorecard) -> None:
    named = [proof for claim in card.claims for proof in claim.proof]

    assert [proof for proof in named if not (ROOT / proof).exists()] == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("plan-is-pure: nearly", "4:17: rules.plan-is-pure: "),
        ("plan-is-pure: {exempt: ''}", "4:26: rules.plan-is-pure.exempt: "),
        ("plan-is-pure: {skipped: we are late}", "4:18: rules.plan-is-pure.skipped: unknown key"),
        ("plan-is-pure: {}", "4:17: rules.plan-is-pure: write done, {exempt: why}, or {todo: what is missing}"),
    ],
)
def test_a_card_is_read_strictly(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "scorecard.yaml"
    path.write_text(f"driver: x\nprotocol: X\nrules:\n  {line}\n")

    with pytest.raises(ConfigError, match=sentence):
        read(path)


def test_a_reason_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "scorecard.yaml"
    path.write_text("driver: x\nprotocol: X\nrules: {a: done, b: {exempt: no wire}, c: {todo: more}}\n")

    card = read(path)

    assert [card.standing(rule_id) for rule_id in "abcd"] == ["done", "exempt", "todo", ""]
    assert card.rules["b"] == OpenRule(exempt="no wire")
