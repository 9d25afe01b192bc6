"""Which record goes when, and what the broker's answer means for it. One sender outlives all connections.

Theory of operation
===================

Each durable record is in exactly one of these states, by its number:

    fresh         from `queue.next_live` on: the live lane, not chosen yet
    backlog       in `queue.backlog`: waits for its turn in the backlog lane
    held          in `topics`: waits until its topic, which the broker refuses, is accepted again
    in flight     in `in_flight`: published on this connection, without a PUBACK yet
    unsendable    in `queue.unsendable`: larger than the broker's Maximum Packet Size (MQTT 5.0, section 3.2.2.3.6),
                  answered with 0x95, or damaged
    delivered     acknowledged to the source; within the resend window its number is remembered
    to resend     in `queue.to_resend` or `queue.to_repeat`: delivered, and to be sent once more
    requested     in `queue.requested`: delivered, and to be sent once more when nothing else waits

What changes a state:

    fresh -> in flight         `send`: the live lane goes first, or the oldest record with `is_in_order`
    fresh -> backlog           the lane lags for a second, or a connection opens
    backlog, to resend, requested -> in flight    `send`, at the backlog's pace and within its share of window and
                               rate; the first two in turn
    fresh, backlog, to resend, requested -> held    its topic is refused and is not probed now
    held -> backlog, to resend    it is to be the probe of its topic, or the topic was accepted
    in flight -> delivered     PUBACK 0x00, or 0x10 where the settings say so (section 3.4.2.1)
    in flight -> backlog, to resend    any other PUBACK: its topic backs off; or the connection ended
    any -> unsendable          `send` finds it too large or damaged; PUBACK 0x95; or it is the largest in flight when
                               the broker disconnects with 0x95
    unsendable -> backlog      a connection opens (not after a DISCONNECT with 0x95, and not when damaged)
    delivered -> to resend     a connection ended within the resend window: a PUBACK says that the broker has a record,
                               not that its disk has it
    to resend -> delivered     it was sent once more before, and the broker has answered for a resend window since
    delivered -> requested     `resend`: an operator asked for it
    any -> no state            a full buffer dropped it; its loss is on record

A refused topic has at most one probe in flight (`topic_backoff`). Each way out of `in flight` either gives a verdict on
the topic or releases the probe.

What never happens: a record is delivered without a PUBACK; a record that the broker would accept waits for another
connection (but behind `HELD_LIMIT` stretches of held records it waits for their topics); two probes of a topic are in
flight; more of the backlog is in flight than its share of the window, except for a single record, or it goes faster
than its pace.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from math import inf
from random import Random
from typing import NamedTuple

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import BrokerRefused
from edge.intervals import IntervalSet
from edge.mqtt.reason_codes import Reason
from edge.seal import Garbage, RecordType, parse
from edge.uplink.mqtt.session import MqttSession
from edge.uplink.reports import Reports
from edge.uplink.send_queue import Lane, Pace, RateEstimator, SendQueue, Unsendable
from edge.uplink.source import ReadAhead, RecordSource, find_newest_checkpoint
from edge.uplink.topic_backoff import TopicBackoffs

_NS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How records are sent.

    Attributes:
        gateway: name of the gateway, in every topic.
        is_in_order: oldest first, instead of fresh records first and the backlog behind.
        backlog_share: how much of the window and of the link's rate the backlog may use.
        backlog_bytes_per_s: most that is sent of the backlog, and again, each record counted with at least 4 KiB.
        resend_window_ns: records acknowledged this long before a connection ended are sent once more.
        is_delivered_without_subscriber: whether a record without a subscriber counts as delivered.
    """

    gateway: str
    is_in_order: bool = False
    backlog_share: float = 0.5
    backlog_bytes_per_s: float = inf
    resend_window_ns: int = 60 * _NS
    is_delivered_without_subscriber: bool = False


class Label(NamedTuple):
    """The topic of a record, and its place in the chain."""

    topic: str
    is_checkpoint: bool
    epoch: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one gateway."""

    gateway: str

    @property
    def status(self) -> str:
        """Whether the gateway is online; retained."""
        return f"tidegate/v1/{self.gateway}/status"

    def label(self, record: bytes) -> Label:
        """The label of a record. Raises `Garbage` for other bytes."""
        frame = parse(record)
        is_checkpoint = frame.type is RecordType.CHECKPOINT
        leaf = "checkpoint" if is_checkpoint else f"r/{frame.type.name.lower()}"
        return Label(f"tidegate/v1/{self.gateway}/{leaf}", is_checkpoint, frame.epoch, frame.seq)


@dataclass(slots=True)
class InFlight:
    """A record without an answer."""

    number: int
    label: Label
    size_bytes: int
    sent_at_ns: int
    lane: Lane
    is_resend: bool


@dataclass(slots=True)
class Counts:
    """Records sent and answered since the start."""

    published: int = 0
    published_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    resent: int = 0


class Sender:
    """Sends the records of a source through one connection after the other."""

    def __init__(
        self,
        source: RecordSource,
        delivery: Delivery,
        *,
        clock: Clock,
        random: Random,
        backoff: Backoff,
        reports: Reports,
    ) -> None:
        self.queue = SendQueue(source.undelivered(), source.durable_end(), is_in_order=delivery.is_in_order)
        self.topics = TopicBackoffs(random)
        self.rate = RateEstimator()
        self._pace = Pace(delivery.backlog_bytes_per_s)
        self.in_flight: dict[int, InFlight] = {}
        self.counts = Counts()
        self.reason_codes: Counter[int] = Counter()
        self.acknowledged_at_ns: int | None = None
        self.newest: Label | None = None
        self._newest_number = -1
        self._source, self._delivery, self._clock, self._reports = source, delivery, clock, reports
        self._backoff = backoff
        self._names = Topics(delivery.gateway)
        self._reads = {lane: ReadAhead(source) for lane in Lane}
        self._acknowledged: list[int] = []
        self._unanswered = IntervalSet()  # Sent on a connection that ended before the answer.
        self._too_large: set[str] = set()  # Topics with a record over the broker's limit.
        self._backlog_in_flight = self._backlog_bytes = 0
        self._checkpoint: int | None = None

    async def open(self, session: MqttSession) -> None:
        """Begin a connection. The newest CHECKPOINT goes first: it carries the key that the records after it need."""
        self.queue.connection_opened(self._source.durable_end(), self._clock.boot_ns())
        self._too_large = self.queue.too_large_topics()
        found = await find_newest_checkpoint(self._source, self.queue.next_live, self._is_checkpoint, self._checkpoint)
        if found is None or found[0] in self.queue.unsendable or not session.may_publish:
            return
        number, record = found
        self._checkpoint = number
        is_resend = number not in self.queue.backlog and not self.topics.holds(number)
        self._discard(number, number)
        self._publish(session, number, record, self._names.label(record), Lane.LIVE, is_resend=is_resend)

    async def send(self, session: MqttSession) -> None:
        """Send what may be sent now."""
        while session.may_publish:
            now_ns = self._clock.boot_ns()
            for number, is_resend in self.topics.take_due(now_ns):
                self.queue.put_back(number, is_resend=is_resend)
            is_due, has_room = now_ns >= self._pace.due_ns, self._has_room_for_backlog(session)
            chosen = self.queue.choose(self._source.durable_end(), is_due=is_due, has_room_for_backlog=has_room)
            if chosen is None:
                return
            lane, number = chosen
            reader = self._reads[lane]
            if not reader.is_at(number):
                # While this waits for the disk, an answer or a new record may change what goes next.
                await reader.fill(number)
            elif reader.head is None or reader.head[0] > number:
                # Dropped from a full buffer: its loss is on record, and there is nothing to send.
                self._discard(number, reader.skip() - 1)
            elif not self._send_head(session, lane, reader.head):
                return
            else:
                reader.advance()

    def discard_before(self, number: int) -> None:
        """Records below this number are no longer stored: they wait for nothing."""
        self.queue.discard_before(number)
        self._unanswered.discard(0, number - 1)
        self.topics.discard_before(number)
        self._too_large = self.queue.too_large_topics()

    def refused_topics(self) -> dict[str, int]:
        """Topics whose records the broker does not take, with the reason code."""
        return dict.fromkeys(self._too_large, int(Reason.PACKET_TOO_LARGE)) | self.topics.codes()

    def request(self, numbers: IntervalSet) -> None:
        """Have delivered records sent again; those on the way to their first delivery go anyway."""
        self.queue.request(numbers)
        undelivered = (flight.number for flight in self.in_flight.values() if not flight.is_resend)
        for first, last in (*self.topics.held_intervals(), *((number, number) for number in undelivered)):
            self.queue.requested.discard(first, last)

    def is_resending(self, numbers: IntervalSet) -> bool:
        """Whether some of these records are still to be sent or acknowledged; also while topics hold records back."""
        is_in_flight = any(number in numbers for number in self.in_flight)
        return is_in_flight or self.topics.is_holding or any(self.queue.is_waiting(*span) for span in numbers)

    def oldest_waiting(self) -> int | None:
        """The lowest number that is not delivered; None where all are."""
        queue, end = self.queue, self._source.durable_end()
        numbers = [flight.number for flight in self.in_flight.values() if not flight.is_resend]
        numbers += [number for number, why in queue.unsendable.items() if not why.is_resend]
        numbers += [queue.backlog.first[0]] if queue.backlog else []
        numbers += [first for first, _ in self.topics.held_intervals()]
        numbers += [queue.next_live] if queue.next_live < end else []
        return min(numbers, default=None)

    def next_wakeup_ns(self) -> int | None:
        """When to call `send` again although nothing happens; None without such a time."""
        now_ns = self._clock.boot_ns()
        lag_ns = self.queue.keep_live_fresh(self._source.durable_end(), now_ns)
        due_ns = self._pace.due_ns if self.queue.has_waiting and self._pace.due_ns > now_ns else None
        return min((at for at in (lag_ns, due_ns, self.topics.next_retry_ns(now_ns)) if at is not None), default=None)

    def commit(self) -> None:
        """Acknowledge to the source what was delivered, in as few ranges as possible."""
        numbers = sorted(self._acknowledged)
        self._acknowledged.clear()
        while numbers:
            first, count = numbers[0], 1
            while count < len(numbers) and numbers[count] == first + count:
                count += 1
            self._source.acknowledge(first, first + count - 1)
            del numbers[:count]

    def close(self, session: MqttSession) -> None:
        """End a connection: put back what was not answered, and what the broker may have lost."""
        self.commit()
        error = session.error
        if isinstance(error, BrokerRefused) and error.reason_code == Reason.PACKET_TOO_LARGE and self.in_flight:
            # The broker does not name the record: the largest is the likeliest.
            largest = max(self.in_flight.values(), key=lambda flight: flight.size_bytes)
            self._set_aside_too_large(self.in_flight.pop(largest.number), is_final=True)
        for flight in self.in_flight.values():
            self.queue.put_back(flight.number, is_resend=flight.is_resend)
            self._unanswered.add(flight.number, flight.number)
        self.in_flight.clear()
        self._backlog_in_flight = self._backlog_bytes = 0
        self.topics.connection_lost()
        for reader in self._reads.values():
            reader.clear()
        self.queue.connection_lost(session.received_at_ns, self._delivery.resend_window_ns)
        self.rate = RateEstimator()

    def _send_head(self, session: MqttSession, lane: Lane, head: tuple[int, bytes]) -> bool:
        """Send a record, or set it aside; False when the lane has to wait for its topic."""
        number, record = head
        is_resend = lane is Lane.RESEND
        try:
            label = self._names.label(record)
        except Garbage as error:
            self.queue.take(lane, number)
            self.queue.unsendable[number] = Unsendable("", is_final=True, is_resend=is_resend)
            self._reports.garbage(number, str(error))
            return True
        if self.topics.try_acquire(label.topic, number, self._clock.boot_ns()):
            self.queue.take(lane, number)
            self._publish(session, number, record, label, lane, is_resend=is_resend)
            return True
        if self._delivery.is_in_order:
            return False
        if self.topics.hold(label.topic, number, is_resend=is_resend):
            self.queue.take(lane, number)
        elif lane is Lane.LIVE:
            self.queue.take(lane, number)
            self.queue.put_back(number, is_resend=False)
        else:
            return False
        return True

    def _publish(
        self, session: MqttSession, number: int, record: bytes, label: Label, lane: Lane, *, is_resend: bool
    ) -> None:
        now_ns = self._clock.boot_ns()
        flight = InFlight(number, label, len(record), now_ns, lane, is_resend)
        if session.packet_bytes(label.topic, len(record)) > session.limits.packet_bytes:
            self._set_aside_too_large(flight, is_final=False)
            return
        if number > self._newest_number:
            self.newest, self._newest_number = label, number
        self.in_flight[number] = flight
        self._count_backlog(flight, 1)
        if lane is not Lane.LIVE:
            self._pace.sent(now_ns, flight.size_bytes)
        self.rate.sent(now_ns)
        self.counts.published += 1
        self.counts.published_bytes += len(record)
        self.counts.resent += is_resend or number in self._unanswered
        self._unanswered.discard(number, number)
        session.publish(label.topic, record, partial(self._answered, flight), is_retained=label.is_checkpoint)

    def _has_room_for_backlog(self, session: MqttSession) -> bool:
        if not self._backlog_in_flight:
            return True
        share = self._delivery.backlog_share
        has_slot = self._backlog_in_flight < max(1, int(session.window * share))
        return has_slot and self._backlog_bytes < self.rate.backlog_bytes(share)

    def _count_backlog(self, flight: InFlight, step: int) -> None:
        if flight.lane is not Lane.LIVE:
            self._backlog_in_flight += step
            self._backlog_bytes += step * flight.size_bytes

    def _answered(self, flight: InFlight, code: int) -> None:
        now_ns = self._clock.boot_ns()
        del self.in_flight[flight.number]
        self._count_backlog(flight, -1)
        self.reason_codes[code] += 1
        self.rate.acknowledged(now_ns, flight.sent_at_ns, flight.size_bytes, is_idle=not self.in_flight)
        is_taken = code == Reason.NO_MATCHING_SUBSCRIBERS and self._delivery.is_delivered_without_subscriber
        if code == Reason.SUCCESS or is_taken:
            self._accepted(flight, now_ns)
        elif code == Reason.PACKET_TOO_LARGE:
            self._set_aside_too_large(flight, is_final=False)
        else:
            self.queue.put_back(flight.number, is_resend=flight.is_resend)
            if self.topics.refused(flight.label.topic, flight.number, code, now_ns):
                self._reports.topic(flight.label.topic, code)

    def _accepted(self, flight: InFlight, now_ns: int) -> None:
        self._backoff.reset()
        self.acknowledged_at_ns = now_ns
        self._acknowledged.append(flight.number)
        window_ns = self._delivery.resend_window_ns
        self.queue.mark_delivered(flight.number, now_ns, window_ns, is_resend=flight.is_resend)
        if not flight.is_resend:
            self.counts.delivered += 1
            self.counts.delivered_bytes += flight.size_bytes
        accepted = self.topics.accepted(flight.label.topic)
        if accepted is not None:
            self.queue.backlog = self.queue.backlog.union(accepted.held)
            self.queue.to_resend = self.queue.to_resend.union(accepted.held_resends)
            self._reports.topic(flight.label.topic, Reason.SUCCESS)

    def _set_aside_too_large(self, flight: InFlight, *, is_final: bool) -> None:
        self.topics.release(flight.label.topic, flight.number)
        if flight.label.topic not in self._too_large:
            self._too_large.add(flight.label.topic)
            self._reports.topic(flight.label.topic, Reason.PACKET_TOO_LARGE, packet_bytes=flight.size_bytes)
        self.queue.unsendable[flight.number] = Unsendable(flight.label.topic, is_final, flight.is_resend)

    def _discard(self, first: int, last: int) -> None:
        self.queue.discard(first, last)
        self.topics.discard(first, last)

    def _is_checkpoint(self, record: bytes) -> bool:
        try:
            return self._names.label(record).is_checkpoint
        except Garbage:
            return False
