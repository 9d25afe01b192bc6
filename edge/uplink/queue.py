"""Which records still have to go, and which must go again: bookkeeping by number, without any I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum

from edge.uplink.numbers import Numbers

_LAG_LIMIT_NS = 10**9
_MERGE_NS = 10**9


class Lane(Enum):
    """Fresh records, or those that waited."""

    LIVE = "live"
    BACKLOG = "backlog"


class Queue:
    """Every durable record is delivered, waiting, set aside or in flight; what is in flight is not in here.

    Attributes:
        waiting: the backlog.
        again: delivered, and to be sent once more because the broker may have forgotten it.
        live: the first number that was never looked at.
        unsendable: too large for the broker, or no record at all; True where trying again would be no use.
    """

    def __init__(self, undelivered: Iterable[tuple[int, int]], durable_end: int, *, is_in_order: bool) -> None:
        self.waiting = Numbers(undelivered)
        self.waiting.discard(durable_end, 2**64)
        self.again = Numbers()
        self.live = durable_end
        self.unsendable: dict[int, bool] = {}
        self._is_in_order = is_in_order
        self._delivered: deque[tuple[int, Numbers]] = deque()  # By second, under its first instant.
        self._mark = (0, durable_end)

    def count(self, durable_end: int) -> int:
        """How many records are undelivered, those in flight not counted."""
        return len(self.waiting) + len(self.unsendable) + durable_end - self.live

    def next(self, durable_end: int, *, has_room_for_backlog: bool) -> tuple[Lane, int] | None:
        """The lane that may send now, and its next number."""
        is_live = self.live < durable_end
        if is_live and not self._is_in_order:
            return Lane.LIVE, self.live
        firsts = [numbers.first[0] for numbers in (self.waiting, self.again) if numbers]
        if firsts:
            return (Lane.BACKLOG, min(firsts)) if has_room_for_backlog else None
        return (Lane.LIVE, self.live) if is_live else None

    def take(self, lane: Lane, number: int) -> bool:
        """Take a record out to be sent; True when it was delivered before."""
        if lane is Lane.LIVE:
            self.live = number + 1
            return False
        is_again = number in self.again
        self.drop(number, number)
        return is_again

    def give_back(self, number: int, *, is_again: bool) -> None:
        """Put a record back whose delivery is not certain."""
        (self.again if is_again else self.waiting).add(number, number)

    def drop(self, first: int, last: int) -> None:
        """[first, last] are in flight, or do not exist any more."""
        self.waiting.discard(first, last)
        self.again.discard(first, last)
        if first <= self.live <= last:
            self.live = last + 1

    def delivered(self, number: int, now_ns: int, window_ns: int) -> None:
        """Remember what was acknowledged within the resend window."""
        if not self._delivered or now_ns - self._delivered[-1][0] >= _MERGE_NS:
            self._delivered.append((now_ns, Numbers()))
        self._delivered[-1][1].add(number, number)
        self._forget_before(now_ns - window_ns)

    def connection_lost(self, heard_at_ns: int, window_ns: int) -> None:
        """The broker may have forgotten what it acknowledged shortly before it was last heard."""
        self._forget_before(heard_at_ns - window_ns)
        for _, numbers in self._delivered:
            for first, last in numbers:
                self.again.add(first, last)
        self._delivered.clear()
        for first, last in self.waiting:
            self.again.discard(first, last)

    def connection_opened(self, durable_end: int, now_ns: int) -> None:
        """What gathered while there was no connection is backlog; a broker may have learnt to take larger packets."""
        self._make_backlog(durable_end)
        for number in [number for number, is_fatal in self.unsendable.items() if not is_fatal]:
            del self.unsendable[number]
            self.waiting.add(number, number)
        self._mark = (now_ns, durable_end)

    def keep_live_fresh(self, durable_end: int, now_ns: int) -> int | None:
        """Leave fresh records to the backlog once they lag, so that the newest go first; when to look again."""
        at_ns, end = self._mark
        if self._is_in_order or self.live >= durable_end:
            return None
        if self.live >= end:
            self._mark = (now_ns, durable_end)
        elif now_ns - at_ns > _LAG_LIMIT_NS:
            self._make_backlog(durable_end)
            return None
        return self._mark[0] + _LAG_LIMIT_NS + 1

    def _make_backlog(self, durable_end: int) -> None:
        self.waiting.add(self.live, durable_end - 1)
        self.live = max(self.live, durable_end)

    def _forget_before(self, boot_ns: int) -> None:
        while self._delivered and self._delivered[0][0] + _MERGE_NS < boot_ns:
            self._delivered.popleft()
