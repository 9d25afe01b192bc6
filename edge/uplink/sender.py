"""Which record goes when, and what the broker's answer means for it. One sender outlives all connections."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from random import Random

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import BrokerRefused
from edge.seal import Garbage
from edge.uplink.checkpoint import find_newest_checkpoint
from edge.uplink.mqtt import Publisher
from edge.uplink.pace import Pace
from edge.uplink.queue import Lane, Queue
from edge.uplink.read_ahead import ReadAhead
from edge.uplink.reasons import Reason
from edge.uplink.refusals import Refusals
from edge.uplink.reports import Reports
from edge.uplink.source import Source
from edge.uplink.topics import Label, Topics

_NS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How records are sent.

    Attributes:
        gateway: its name, in every topic.
        is_in_order: oldest first, instead of fresh records first and the backlog behind.
        backlog_share: how much of the window and of the link's rate the backlog may use.
        resend_window_ns: what was acknowledged this long before a connection ended goes once more.
        is_delivered_without_subscriber: whether a record nobody subscribes to counts as delivered.
    """

    gateway: str
    is_in_order: bool = False
    backlog_share: float = 0.5
    resend_window_ns: int = 60 * _NS
    is_delivered_without_subscriber: bool = False


@dataclass(slots=True)
class Flight:
    """A record that the broker has not answered for."""

    number: int
    label: Label
    size_bytes: int
    sent_at_ns: int
    lane: Lane
    is_again: bool


@dataclass(slots=True)
class Counts:
    """What was sent and answered since the start."""

    published: int = 0
    published_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    resent: int = 0


class Sender:
    """Sends what the source holds through whichever connection there is."""

    def __init__(
        self, source: Source, delivery: Delivery, *, clock: Clock, random: Random, backoff: Backoff, reports: Reports
    ) -> None:
        self.queue = Queue(source.undelivered(), source.durable_end(), is_in_order=delivery.is_in_order)
        self.refusals = Refusals(random)
        self.pace = Pace()
        self.flights: dict[int, Flight] = {}
        self.counts = Counts()
        self.reason_codes: Counter[int] = Counter()
        self.acknowledged_at_ns: int | None = None
        self.newest: Label | None = None
        self._newest_number = -1
        self._source, self._delivery, self._clock, self._reports = source, delivery, clock, reports
        self._backoff = backoff
        self._topics = Topics(delivery.gateway)
        self._reads = {lane: ReadAhead(source) for lane in Lane}
        self._acknowledged: list[int] = []
        self._backlog_flights = self._backlog_bytes = 0
        self._checkpoint: int | None = None

    async def open(self, publisher: Publisher) -> None:
        """Begin a connection. The newest CHECKPOINT goes first: it carries the key that the records after it need."""
        self.queue.connection_opened(self._source.durable_end(), self._clock.boot_ns())
        found = await find_newest_checkpoint(self._source, self.queue.live, self._is_checkpoint, self._checkpoint)
        if found is None or found[0] in self.queue.unsendable or not publisher.may_publish:
            return
        number, record = found
        self._checkpoint = number
        is_again = number not in self.queue.waiting
        self.queue.drop(number, number)
        self._publish(publisher, number, record, self._topics.label(record), Lane.LIVE, is_again=is_again)

    async def send(self, publisher: Publisher) -> None:
        """Send what may go now."""
        while publisher.may_publish:
            for number in self.refusals.due(self._clock.boot_ns()):
                self.queue.waiting.add(number, number)
            has_room = self._has_room_for_backlog(publisher)
            chosen = self.queue.next(self._source.durable_end(), has_room_for_backlog=has_room)
            if chosen is None:
                return
            lane, number = chosen
            reader = self._reads[lane]
            if not reader.is_at(number):
                # While this waits for the disk, an answer or a new record may change what goes next.
                await reader.fill(number)
            elif reader.head is None or reader.head[0] > number:
                # Dropped from a full buffer: its loss is on record, and there is nothing to send.
                self.queue.drop(number, reader.skip() - 1)
            elif not self._send_head(publisher, lane, reader.head):
                return
            else:
                reader.advance()

    def next_look_ns(self) -> int | None:
        """When there may be something to send although nothing happens."""
        now_ns = self._clock.boot_ns()
        lag_ns = self.queue.keep_live_fresh(self._source.durable_end(), now_ns)
        return min((at for at in (lag_ns, self.refusals.next_retry_ns(now_ns)) if at is not None), default=None)

    def commit(self) -> None:
        """Tell the source what was delivered, in as few ranges as it takes."""
        numbers = sorted(self._acknowledged)
        self._acknowledged.clear()
        while numbers:
            first, count = numbers[0], 1
            while count < len(numbers) and numbers[count] == first + count:
                count += 1
            self._source.acknowledge(first, first + count - 1)
            del numbers[:count]

    def close(self, publisher: Publisher) -> None:
        """Take back what a connection left unanswered, and what the broker may have forgotten."""
        self.commit()
        ended = publisher.ended.result()
        if isinstance(ended, BrokerRefused) and ended.reason_code == Reason.PACKET_TOO_LARGE and self.flights:
            # The broker does not say which one it was: the largest is the likeliest.
            largest = max(self.flights.values(), key=lambda flight: flight.size_bytes)
            self._set_aside_too_large(self.flights.pop(largest.number), is_fatal=True)
        for flight in self.flights.values():
            self.queue.give_back(flight.number, is_again=flight.is_again)
        self.flights.clear()
        self._backlog_flights = self._backlog_bytes = 0
        for first, last in self.refusals.connection_lost():
            self.queue.waiting.add(first, last)
        for reader in self._reads.values():
            reader.clear()
        self.queue.connection_lost(publisher.heard_at_ns, self._delivery.resend_window_ns)
        self.pace = Pace()

    def _send_head(self, publisher: Publisher, lane: Lane, head: tuple[int, bytes]) -> bool:
        """Send a record, or set it aside; False when the lane has to wait."""
        number, record = head
        try:
            label = self._topics.label(record)
        except Garbage as error:
            self.queue.take(lane, number)
            self.queue.unsendable[number] = True
            self._reports.garbage(number, str(error))
            return True
        if self.refusals.may_send(label.topic, number, self._clock.boot_ns()):
            is_again = self.queue.take(lane, number)
            self._publish(publisher, number, record, label, lane, is_again=is_again)
            return True
        if self._delivery.is_in_order:
            return False
        if lane is Lane.LIVE:
            self.queue.take(lane, number)
            self.queue.give_back(number, is_again=False)
            return True
        if not self.refusals.hold(label.topic, number):
            return False
        self.queue.take(lane, number)
        return True

    def _publish(
        self, publisher: Publisher, number: int, record: bytes, label: Label, lane: Lane, *, is_again: bool
    ) -> None:
        now_ns = self._clock.boot_ns()
        flight = Flight(number, label, len(record), now_ns, lane, is_again)
        if publisher.packet_bytes(label.topic, len(record)) > publisher.limits.packet_bytes:
            self._set_aside_too_large(flight, is_fatal=False)
            return
        if number > self._newest_number:
            self.newest, self._newest_number = label, number
        self.flights[number] = flight
        self._count_backlog(flight, 1)
        self.pace.sent(now_ns)
        self.counts.published += 1
        self.counts.published_bytes += len(record)
        self.counts.resent += is_again
        publisher.publish(label.topic, record, partial(self._answered, flight), is_retained=label.is_checkpoint)

    def _has_room_for_backlog(self, publisher: Publisher) -> bool:
        if self._delivery.is_in_order or not self._backlog_flights:
            return True
        share = self._delivery.backlog_share
        has_slot = self._backlog_flights < max(1, int(publisher.window * share))
        return has_slot and self._backlog_bytes < self.pace.backlog_bytes(share)

    def _count_backlog(self, flight: Flight, step: int) -> None:
        if flight.lane is Lane.BACKLOG:
            self._backlog_flights += step
            self._backlog_bytes += step * flight.size_bytes

    def _answered(self, flight: Flight, code: int) -> None:
        now_ns = self._clock.boot_ns()
        del self.flights[flight.number]
        self._count_backlog(flight, -1)
        self.reason_codes[code] += 1
        self.pace.acknowledged(now_ns, flight.sent_at_ns, flight.size_bytes, is_idle=not self.flights)
        is_taken = code == Reason.NO_MATCHING_SUBSCRIBERS and self._delivery.is_delivered_without_subscriber
        if code == Reason.SUCCESS or is_taken:
            self._accepted(flight, now_ns)
        elif code == Reason.PACKET_TOO_LARGE:
            self._set_aside_too_large(flight, is_fatal=False)
        else:
            self.queue.give_back(flight.number, is_again=flight.is_again)
            if self.refusals.refused(flight.label.topic, flight.number, code, now_ns):
                self._reports.topic(flight.label.topic, code)

    def _accepted(self, flight: Flight, now_ns: int) -> None:
        self._backoff.reset()
        self.acknowledged_at_ns = now_ns
        self._acknowledged.append(flight.number)
        self.queue.delivered(flight.number, now_ns, self._delivery.resend_window_ns)
        if not flight.is_again:
            self.counts.delivered += 1
            self.counts.delivered_bytes += flight.size_bytes
        refusal = self.refusals.accepted(flight.label.topic)
        if refusal is not None:
            for first, last in refusal.held:
                self.queue.waiting.add(first, last)
            self._reports.topic(flight.label.topic, Reason.SUCCESS)

    def _set_aside_too_large(self, flight: Flight, *, is_fatal: bool) -> None:
        self.refusals.release_probe(flight.label.topic, flight.number)
        if not self.queue.unsendable:
            self._reports.topic(flight.label.topic, Reason.PACKET_TOO_LARGE, packet_bytes=flight.size_bytes)
        self.queue.unsendable[flight.number] = is_fatal

    def _is_checkpoint(self, record: bytes) -> bool:
        try:
            return self._topics.label(record).is_checkpoint
        except Garbage:
            return False
