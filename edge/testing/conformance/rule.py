"""A rule: an id for scorecards, a sentence for people, and a function that raises AssertionError where it is broken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge.testing.conformance.subject import Subject

Offline = Callable[[Subject], None]
Live = Callable[[Subject], Awaitable[None]]


class NotOffered(Exception):
    """The rule is about something that this driver does not offer; the scorecard says `exempt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; one of `offline` and `live` says how to find out."""

    id: str
    sentence: str
    offline: Offline | None = None
    live: Live | None = None


RULES: dict[str, Rule] = {}
"""Every rule by its id."""


def offline(rule_id: str) -> Callable[[Offline], Offline]:
    """Make a rule of a function that needs no device."""

    def register(check: Offline) -> Offline:
        RULES[rule_id] = Rule(id=rule_id, sentence=_sentence(check), offline=check)
        return check

    return register


def live(rule_id: str) -> Callable[[Live], Live]:
    """Make a rule of a coroutine function that talks to a device."""

    def register(check: Live) -> Live:
        RULES[rule_id] = Rule(id=rule_id, sentence=_sentence(check), live=check)
        return check

    return register


def _sentence(check: Callable[..., object]) -> str:
    return (check.__doc__ or "").partition("\n")[0]
