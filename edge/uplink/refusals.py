"""Topics the broker refuses: probed with one record at a growing interval, while other topics go on.

A probe ends with a verdict on its topic (`accepted`, `refused`), with the connection, or without a verdict
(`release_probe`): then the next record of the topic may be the probe at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from edge.backoff import Backoff
from edge.uplink.numbers import Numbers
from edge.uplink.reasons import Reason

HELD_LIMIT = 256
"""Most records set aside: past it the backlog waits, instead of being read through for nothing."""

_NO_SUBSCRIBER_LIMIT_NS = 5 * 10**9  # Nobody has to be spared: a relay that came back is found soon.


@dataclass(slots=True)
class Refusal:
    """One refused topic: `held` are its records that were met since, `probe` is the number of the one in flight."""

    code: int
    backoff: Backoff
    retry_at_ns: int
    probe: int | None = None
    held: Numbers = field(default_factory=Numbers)


class Refusals:
    """The refused topics."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._by_topic: dict[str, Refusal] = {}

    def codes(self) -> dict[str, int]:
        """Refused topic to reason code."""
        return {topic: refusal.code for topic, refusal in self._by_topic.items()}

    def may_send(self, topic: str, number: int, now_ns: int) -> bool:
        """Whether a record may go to a topic now; True for a refused one makes that record its probe."""
        refusal = self._by_topic.get(topic)
        if refusal is None:
            return True
        if refusal.probe is not None or now_ns < refusal.retry_at_ns:
            return False
        refusal.probe = number
        return True

    def release_probe(self, topic: str, number: int) -> None:
        """A record was not sent, or the answer says nothing about its topic: if it was the probe, another may be."""
        refusal = self._by_topic.get(topic)
        if refusal is not None and refusal.probe == number:
            refusal.probe = None

    def refused(self, topic: str, number: int, code: int, now_ns: int) -> bool:
        """The broker refused a record; True when that is news."""
        refusal = self._by_topic.get(topic)
        if refusal is None:
            no_subscriber = {"limit_ns": _NO_SUBSCRIBER_LIMIT_NS} if code == Reason.NO_MATCHING_SUBSCRIBERS else {}
            backoff = Backoff(self._random, **no_subscriber)
            self._by_topic[topic] = Refusal(code, backoff, now_ns + backoff.next_ns())
            return True
        if refusal.probe == number:  # Else it was sent before the topic was refused.
            refusal.probe = None
            refusal.retry_at_ns = now_ns + refusal.backoff.next_ns()
        is_news, refusal.code = refusal.code != code, code
        return is_news

    def accepted(self, topic: str) -> Refusal | None:
        """The broker took a record; what was refused until now, if it was."""
        return self._by_topic.pop(topic, None) if self._by_topic else None

    def hold(self, topic: str, number: int) -> bool:
        """Set a record of a refused topic aside; False when enough are."""
        if self.held >= HELD_LIMIT:
            return False
        self._by_topic[topic].held.add(number, number)
        return True

    @property
    def held(self) -> int:
        """How many records are set aside."""
        return sum(len(refusal.held) for refusal in self._by_topic.values())

    def due(self, now_ns: int) -> list[int]:
        """For each topic to be probed, one of its records that were set aside."""
        probes = []
        for refusal in self._by_topic.values():
            if refusal.held and refusal.probe is None and now_ns >= refusal.retry_at_ns:
                number = refusal.held.first[0]
                refusal.held.discard(number, number)
                probes.append(number)
        return probes

    def next_retry_ns(self, now_ns: int) -> int | None:
        """When the next topic may be probed; what may be already has nothing to be probed with."""
        times = (r.retry_at_ns for r in self._by_topic.values() if r.probe is None and r.retry_at_ns > now_ns)
        return min(times, default=None)

    def connection_lost(self) -> Numbers:
        """No probe is on its way any more; returns all that was set aside."""
        held = Numbers()
        for refusal in self._by_topic.values():
            refusal.probe = None
            for first, last in refusal.held:
                held.add(first, last)
            refusal.held.clear()
        return held
