"""The rules as a test function for pytest, for authors of drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from edge.testing.conformance.rule import RULES, NotOffered
from edge.testing.conformance.subject import Subject


def driver_tests(subject: Subject) -> Callable[[str], None]:
    """A test function with one case for each rule; needs no pytest plugin."""

    @pytest.mark.parametrize("rule_id", RULES)
    def test(rule_id: str) -> None:
        try:
            keep(rule_id, subject)
        except NotOffered as reason:
            pytest.skip(f"{subject.driver}: {reason}")

    return test


def keep(rule_id: str, subject: Subject) -> None:
    """Test one rule, in a new event loop if it needs one.

    Raises:
        AssertionError: the rule is broken; the message says how.
        NotOffered: the driver lacks the optional interface that the rule is about.
    """
    rule = RULES[rule_id]
    if rule.offline is not None:
        rule.offline(subject)
    if rule.live is not None:
        asyncio.run(rule.live(subject))
