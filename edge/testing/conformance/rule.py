"""Rules: an id for scorecards, and a function that raises AssertionError if the rule is broken."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from edge.testing.conformance.subject import Subject

Offline = Callable[[Subject], None]
Live = Callable[[Subject], Coroutine[Any, Any, None]]


class NotOffered(Exception):
    """The driver lacks the optional interface that the rule is about; its scorecard says `exempt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; exactly one of `offline` and `live` is its check."""

    id: str
    offline: Offline | None = None
    live: Live | None = None


RULES: dict[str, Rule] = {}
"""Every rule by its id."""


def offline(rule_id: str) -> Callable[[Offline], Offline]:
    """Register a function that needs no device as a rule."""

    def register(check: Offline) -> Offline:
        RULES[rule_id] = Rule(id=rule_id, offline=check)
        return check

    return register


def live(rule_id: str) -> Callable[[Live], Live]:
    """Register a coroutine function that uses a device as a rule."""

    def register(check: Live) -> Live:
        RULES[rule_id] = Rule(id=rule_id, live=check)
        return check

    return register
