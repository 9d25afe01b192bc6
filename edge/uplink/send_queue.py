"""Which records still have to go, which must go again, and how much of the backlog may be in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from edge.intervals import IntervalSet

_LAG_LIMIT_NS = 10**9
_MERGE_NS = 10**9
_SAMPLE_NS = 100 * 10**6
_SMOOTHING = 0.3
_AHEAD_S = 1.0
_LEAST_COUNTED_BYTES = 4096
_BURST_NS = 50 * 10**6


class Lane(Enum):
    """Fresh records, those that waited, or those that were delivered and go once more."""

    LIVE = "live"
    BACKLOG = "backlog"
    RESEND = "resend"


class Unsendable(NamedTuple):
    """Why a record is not sent: its topic, where it is too large; empty where it is damaged."""

    topic: str
    is_final: bool  # A new connection changes nothing.
    is_resend: bool


_Acknowledged = deque[tuple[int, IntervalSet]]
"""Numbers by the second in which they were acknowledged, with its first instant."""


class SendQueue:
    """The records that are not in flight and may have to be sent, by number; does no I/O.

    Attributes:
        backlog: records that wait.
        to_resend: delivered, and owed once more because the broker may have lost them.
        to_repeat: delivered and already sent once more within the resend window before the connection ended. They come
            after all others, and are owed no longer once the broker has answered for a window since: else they would
            grow without bound at a broker that disconnects every few messages.
        requested: delivered, and to be sent once more after all others because someone asked.
        next_live: the first number of the live lane; nothing from here on was ever chosen.
        unsendable: too large for the broker, or damaged.
    """

    def __init__(self, undelivered: Iterable[tuple[int, int]], durable_end: int, *, is_in_order: bool) -> None:
        self.backlog = IntervalSet(undelivered)
        self.backlog.discard(durable_end, 2**64)
        self.to_resend, self.to_repeat, self.requested = IntervalSet(), IntervalSet(), IntervalSet()
        self.next_live = durable_end
        self.unsendable: dict[int, Unsendable] = {}
        self._is_in_order = is_in_order
        self._is_resend_next = False
        self._delivered: _Acknowledged = deque()
        self._resent: _Acknowledged = deque()
        self._lag_check = (0, durable_end)  # When it began, and the durable end at that time.

    def count(self, durable_end: int) -> int:
        """How many records are undelivered, without those in flight."""
        unsendable = sum(not each.is_resend for each in self.unsendable.values())
        return self.backlog.count + unsendable + durable_end - self.next_live

    def choose(self, durable_end: int, *, is_due: bool, has_room_for_backlog: bool) -> tuple[Lane, int] | None:
        """The lane that may send now, and its next number; `is_due` says whether the backlog's pace lets it go."""
        is_live = self.next_live < durable_end
        if is_live and not self._is_in_order:
            return Lane.LIVE, self.next_live
        if self.backlog or self.to_resend:
            return self._choose_waiting() if is_due and (has_room_for_backlog or self._is_in_order) else None
        if is_live:
            return Lane.LIVE, self.next_live
        last = self.to_repeat or self.requested
        return (Lane.RESEND, last.first[0]) if last and is_due and has_room_for_backlog else None

    def take(self, lane: Lane, number: int) -> None:
        """Remove a record that is sent."""
        if lane is Lane.LIVE:
            self.next_live = number + 1
        else:
            self._is_resend_next = lane is Lane.BACKLOG
            self.discard(number, number)

    def put_back(self, number: int, *, is_resend: bool) -> None:
        """Return a record that was taken and is not certain to be delivered."""
        (self.to_resend if is_resend else self.backlog).add(number, number)

    def discard(self, first: int, last: int) -> None:
        """Remove [first, last]: in flight, or no longer stored."""
        self.backlog.discard(first, last)
        self.to_resend.discard(first, last)
        self.to_repeat.discard(first, last)
        self.requested.discard(first, last)
        if first <= self.next_live <= last:
            self.next_live = last + 1

    def discard_before(self, number: int) -> None:
        """Remove the records below this number: they are no longer stored."""
        self.discard(0, number - 1)
        for gone in [each for each in self.unsendable if each < number]:
            del self.unsendable[gone]

    def too_large_topics(self) -> set[str]:
        """Topics with a record that is too large."""
        return {each.topic for each in self.unsendable.values() if each.topic}

    @property
    def resend_count(self) -> int:
        """How many delivered records will be sent once more."""
        return self.to_resend.count + self.to_repeat.count + self.requested.count

    def request(self, numbers: IntervalSet) -> None:
        """Have delivered records sent again; those that wait for their first delivery go anyway."""
        for first, last in numbers:
            self.requested.add(first, min(last, self.next_live - 1))
        for first, last in self.backlog:
            self.requested.discard(first, last)

    @property
    def has_waiting(self) -> bool:
        """Whether any record waits behind the live lane."""
        return any((self.backlog, self.to_resend, self.to_repeat, self.requested))

    def is_waiting(self, first: int, last: int) -> bool:
        """Whether one of [first, last] waits to be sent, for the first time or again."""
        waiting = (self.backlog, self.to_resend, self.to_repeat, self.requested)
        return last >= self.next_live or any(any(numbers.within(first, last)) for numbers in waiting)

    def mark_delivered(self, number: int, now_ns: int, window_ns: int, *, is_resend: bool) -> None:
        """Keep the number of an acknowledged record for the resend window."""
        acknowledged = self._resent if is_resend else self._delivered
        if not acknowledged or now_ns - acknowledged[-1][0] >= _MERGE_NS:
            acknowledged.append((now_ns, IntervalSet()))
        acknowledged[-1][1].add(number, number)
        _forget_before(acknowledged, now_ns - window_ns)

    def connection_lost(self, received_at_ns: int, window_ns: int) -> None:
        """The broker may have lost what it acknowledged shortly before its last answer: send it once more."""
        _forget_before(self._delivered, received_at_ns - window_ns)
        _forget_before(self._resent, received_at_ns - window_ns)
        self.to_resend = IntervalSet([*self.to_resend, *(each for _, numbers in self._delivered for each in numbers)])
        self._delivered.clear()
        self.to_repeat = IntervalSet(each for _, numbers in self._resent for each in numbers)
        for first, last in self.to_repeat:
            self.to_resend.discard(first, last)

    def connection_opened(self, durable_end: int, now_ns: int) -> None:
        """What was stored without a connection is backlog; the broker's size limit may be another one now."""
        self._make_backlog(durable_end)
        self._is_resend_next = False
        for number, why in list(self.unsendable.items()):
            if not why.is_final:
                del self.unsendable[number]
                self.put_back(number, is_resend=why.is_resend)
        self._lag_check = (now_ns, durable_end)

    def keep_live_fresh(self, durable_end: int, now_ns: int) -> int | None:
        """Move fresh records that lag to the backlog, so that the newest go first; when to call this again."""
        since_ns, end = self._lag_check
        if self._is_in_order or self.next_live >= durable_end:
            return None
        if self.next_live >= end:
            self._lag_check = (now_ns, durable_end)
        elif now_ns - since_ns > _LAG_LIMIT_NS:
            self._make_backlog(durable_end)
            return None
        return self._lag_check[0] + _LAG_LIMIT_NS + 1

    def _make_backlog(self, durable_end: int) -> None:
        self.backlog.add(self.next_live, durable_end - 1)
        self.next_live = max(self.next_live, durable_end)

    def _choose_waiting(self) -> tuple[Lane, int]:
        """Of backlog and records to resend in turn, so that both make progress; in order, the older."""
        if not self.to_resend:
            return Lane.BACKLOG, self.backlog.first[0]
        resend = self.to_resend.first[0]
        if not self.backlog:
            return Lane.RESEND, resend
        waiting = self.backlog.first[0]
        is_resend = resend < waiting if self._is_in_order else self._is_resend_next
        return (Lane.RESEND, resend) if is_resend else (Lane.BACKLOG, waiting)


def _forget_before(acknowledged: _Acknowledged, boot_ns: int) -> None:
    while acknowledged and acknowledged[0][0] + _MERGE_NS < boot_ns:
        acknowledged.popleft()


class RateEstimator:
    """Bytes per second of one connection while it is busy, and its shortest round trip, from acknowledgements.

    It limits how much of the backlog is in flight, so that a fresh record never queues long behind it.
    """

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self.round_trip_ns = 0
        self._busy_ns = 0
        self._busy_from_ns: int | None = None
        self._bytes = 0

    def sent(self, now_ns: int) -> None:
        """A record was sent."""
        if self._busy_from_ns is None:
            self._busy_from_ns = now_ns

    def acknowledged(self, now_ns: int, sent_at_ns: int, size_bytes: int, *, is_idle: bool) -> None:
        """A record was answered; `is_idle` when no other is in flight."""
        took_ns = now_ns - sent_at_ns
        # Never let it grow: a round trip through our own backlog would make room for more backlog.
        self.round_trip_ns = min(took_ns, self.round_trip_ns or took_ns)
        # Only time in which the link had work says how fast it is.
        self._busy_ns += now_ns - (now_ns if self._busy_from_ns is None else self._busy_from_ns)
        self._busy_from_ns = None if is_idle else now_ns
        self._bytes += size_bytes
        if self._busy_ns >= max(_SAMPLE_NS, 2 * self.round_trip_ns):
            rate = self._bytes * 1e9 / self._busy_ns
            self.bytes_per_s += (rate - self.bytes_per_s) * (_SMOOTHING if self.bytes_per_s else 1.0)
            self._bytes = self._busy_ns = 0

    def backlog_bytes(self, share: float) -> float:
        """The bytes that the link holds by itself, and `share` of what it moves in a second."""
        return self.bytes_per_s * (self.round_trip_ns / 1e9 + share * _AHEAD_S)


class Pace:
    """Spreads the backlog over time, so that a relay takes it as it comes.

    A broker acknowledges what it has queued, however far behind its subscriber is: no answer tells the gateway that
    fresh records wait in that queue behind the backlog. A short record costs a relay as much as one of 4 KiB.

    Attributes:
        due_ns: boot time from which the next record may go.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self.due_ns = 0
        self._bytes_per_s = bytes_per_s

    def sent(self, now_ns: int, size_bytes: int) -> None:
        """A record of the backlog was sent; after a pause, a few may follow at once."""
        took_ns = round(max(size_bytes, _LEAST_COUNTED_BYTES) * 1e9 / self._bytes_per_s)
        self.due_ns = max(self.due_ns, now_ns - _BURST_NS) + took_ns
