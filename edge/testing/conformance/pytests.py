"""The rules as a test function for pytest, for authors of drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from edge.testing.conformance.rule import RULES, NotOffered
from edge.testing.conformance.subject import Subject


def driver_tests(subject: Subject) -> Callable[[str], None]:
    """A test function with one case for each rule; it needs no plugin of pytest."""

    @pytest.mark.parametrize("rule_id", RULES)
    def test(rule_id: str) -> None:
        try:
            keep(rule_id, subject)
        except NotOffered as reason:
            pytest.skip(f"{subject.driver}: {reason}")

    return test


def keep(rule_id: str, subject: Subject) -> None:
    """Try one rule, in an event loop of its own where it needs one.

    Raises:
        AssertionError: the rule is broken; the sentence says how.
        NotOffered: the rule is about something that this driver does not offer.
    """
    rule = RULES[rule_id]
    if rule.offline is not None:
        rule.offline(subject)
    if rule.live is not None:
        asyncio.run(_run(rule.live(subject)))


async def _run(check: object) -> None:
    await check  # type: ignore[misc]
