"""Each installed driver against its scorecard: rules that are done pass, rules that are exempt are not offered."""

from __future__ import annotations

import pytest

from edge.testing.conformance import RULES, NotOffered, Subject
from edge.testing.conformance.scorecard import read, scorecard_path
from tests.support.subjects import SUBJECTS

CARDS = {name: read(scorecard_path(name)) for name in SUBJECTS}


def cases(*, live: bool, standing: str) -> pytest.MarkDecorator:
    """Each driver with each rule that has this state on its scorecard."""
    found = [
        pytest.param(subject, rule.id, id=f"{name}-{rule.id}")
        for name, subject in SUBJECTS.items()
        for rule in RULES.values()
        if (rule.live is not None) is live and CARDS[name].standing(rule.id) == standing
    ]
    return pytest.mark.parametrize(("subject", "rule_id"), found)


@cases(live=False, standing="done")
def test_a_driver_keeps_a_rule_offline(subject: Subject, rule_id: str) -> None:
    check = RULES[rule_id].offline
    assert check is not None

    check(subject)


@cases(live=True, standing="done")
async def test_a_driver_keeps_a_rule(subject: Subject, rule_id: str) -> None:
    check = RULES[rule_id].live
    assert check is not None

    await check(subject)


@cases(live=False, standing="exempt")
def test_a_driver_is_exempt_for_a_reason_offline(subject: Subject, rule_id: str) -> None:
    check = RULES[rule_id].offline
    assert check is not None

    with pytest.raises(NotOffered):
        check(subject)


@cases(live=True, standing="exempt")
async def test_a_driver_is_exempt_for_a_reason(subject: Subject, rule_id: str) -> None:
    check = RULES[rule_id].live
    assert check is not None

    with pytest.raises(NotOffered):
        await check(subject)
