"""Topics the broker refuses: probed with one record at a growing interval, while other topics go on.

A probe ends with a verdict on its topic (`accepted`, `refused`), with the connection, or without a verdict
(`release`): then the next record of the topic may be the probe at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from edge.backoff import Backoff
from edge.intervals import Interval, IntervalSet
from edge.mqtt.reason_codes import Reason

HELD_LIMIT = 65_536
"""Most stretches of records set aside, some 5 MB: past it the backlog waits for their topics."""

_NO_SUBSCRIBER_LIMIT_NS = 5 * 10**9  # A probe costs the broker little, and a relay that came back is found soon.


@dataclass(slots=True)
class TopicBackoff:
    """One refused topic.

    Attributes:
        code: the last reason code.
        probe: the number of the record in flight that tries whether the topic is still refused.
        held: its records that were met meanwhile; kept when the connection ends, so that none is read twice.
        held_resends: the same of records that were delivered before.
    """

    code: int
    backoff: Backoff
    retry_at_ns: int
    probe: int | None = None
    held: IntervalSet = field(default_factory=IntervalSet)
    held_resends: IntervalSet = field(default_factory=IntervalSet)


class TopicBackoffs:
    """The refused topics."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._by_topic: dict[str, TopicBackoff] = {}

    def codes(self) -> dict[str, int]:
        """Refused topic to reason code."""
        return {topic: backoff.code for topic, backoff in self._by_topic.items()}

    def try_acquire(self, topic: str, number: int, now_ns: int) -> bool:
        """Whether a record may be sent to a topic now; for a refused topic, True makes it the probe."""
        topic_backoff = self._by_topic.get(topic)
        if topic_backoff is None:
            return True
        if topic_backoff.probe is not None or now_ns < topic_backoff.retry_at_ns:
            return False
        topic_backoff.probe = number
        return True

    def release(self, topic: str, number: int) -> None:
        """A record was not sent, or its answer says nothing about its topic: if it was the probe, another may be."""
        topic_backoff = self._by_topic.get(topic)
        if topic_backoff is not None and topic_backoff.probe == number:
            topic_backoff.probe = None

    def refused(self, topic: str, number: int, code: int, now_ns: int) -> bool:
        """The broker refused a record; True when the topic was accepted before, or refused with another code."""
        topic_backoff = self._by_topic.get(topic)
        if topic_backoff is None:
            no_subscriber = {"limit_ns": _NO_SUBSCRIBER_LIMIT_NS} if code == Reason.NO_MATCHING_SUBSCRIBERS else {}
            backoff = Backoff(self._random, **no_subscriber)
            self._by_topic[topic] = TopicBackoff(code, backoff, now_ns + backoff.next_ns())
            return True
        if topic_backoff.probe == number:  # Else it was sent before the topic was refused.
            topic_backoff.probe = None
            topic_backoff.retry_at_ns = now_ns + topic_backoff.backoff.next_ns()
        is_news, topic_backoff.code = topic_backoff.code != code, code
        return is_news

    def accepted(self, topic: str) -> TopicBackoff | None:
        """The broker accepted a record; for a refused topic, what was set aside."""
        return self._by_topic.pop(topic, None) if self._by_topic else None

    def hold(self, topic: str, number: int, *, is_resend: bool) -> bool:
        """Set a record of a refused topic aside; False at the limit."""
        if sum(len(each.held) + len(each.held_resends) for each in self._by_topic.values()) >= HELD_LIMIT:
            return False
        topic_backoff = self._by_topic[topic]
        (topic_backoff.held_resends if is_resend else topic_backoff.held).add(number, number)
        return True

    def held_intervals(self) -> Iterator[Interval]:
        """The undelivered records that are set aside."""
        return (interval for topic_backoff in self._by_topic.values() for interval in topic_backoff.held)

    def holds(self, number: int) -> bool:
        """Whether an undelivered record is set aside."""
        return any(number in topic_backoff.held for topic_backoff in self._by_topic.values())

    def discard(self, first: int, last: int) -> None:
        """[first, last] are in flight, or no longer stored."""
        for topic_backoff in self._by_topic.values():
            topic_backoff.held.discard(first, last)
            topic_backoff.held_resends.discard(first, last)

    def discard_before(self, number: int) -> None:
        """Records below this number are no longer stored; a topic is forgotten with the last that waited for it."""
        for topic, topic_backoff in list(self._by_topic.items()):
            had_held = bool(topic_backoff.held)
            topic_backoff.held.discard(0, number - 1)
            topic_backoff.held_resends.discard(0, number - 1)
            if had_held and not topic_backoff.held and topic_backoff.probe is None:
                del self._by_topic[topic]

    @property
    def held(self) -> int:
        """How many undelivered records are set aside."""
        return sum(topic_backoff.held.count for topic_backoff in self._by_topic.values())

    @property
    def held_resends(self) -> int:
        """How many delivered records are set aside."""
        return sum(topic_backoff.held_resends.count for topic_backoff in self._by_topic.values())

    @property
    def is_holding(self) -> bool:
        """Whether any record is set aside."""
        return self.held > 0 or self.held_resends > 0

    def take_due(self, now_ns: int) -> list[tuple[int, bool]]:
        """For each topic that may be probed now, one of its records that were set aside, and whether it is a resend."""
        probes = []
        for topic_backoff in self._by_topic.values():
            held = topic_backoff.held or topic_backoff.held_resends
            if held and topic_backoff.probe is None and now_ns >= topic_backoff.retry_at_ns:
                number = held.first[0]
                held.discard(number, number)
                probes.append((number, held is topic_backoff.held_resends))
        return probes

    def next_retry_ns(self, now_ns: int) -> int | None:
        """When the next topic may be probed; a topic that already may be has no record to probe it with."""
        times = (each.retry_at_ns for each in self._by_topic.values() if each.probe is None)
        return min((at_ns for at_ns in times if at_ns > now_ns), default=None)

    def connection_lost(self) -> None:
        """Probes are no longer in flight."""
        for topic_backoff in self._by_topic.values():
            topic_backoff.probe = None
