"""The sender against a broker, a buffer and a network that do anything in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from math import inf
from random import Random
from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.backoff import Backoff
from edge.errors import BrokerRefused, BrokerUnreachable, TidegateError
from edge.intervals import IntervalSet
from edge.seal import RecordType, parse
from edge.testing.clock import ManualClock
from edge.uplink.reports import Reports
from edge.uplink.sender import Delivery, Sender, Topics
from tests.support.source import MemorySource, unsigned_record

_S = 10**9
_RECORDS_LIMIT = 200  # Below what a sender sets aside of refused topics: past it the backlog waits for them.
_KINDS = st.sampled_from([RecordType.DATA, RecordType.EVENT, RecordType.CHECKPOINT])
_SIZES = st.sampled_from([40, 40, 40, 400])  # Payload bytes; records of the larger size are over `_SMALL_BYTES`.
_SMALL_BYTES = 320


class ScriptedSession:
    """Takes the place of `MqttSession`; the test is the broker.

    Attributes:
        limits: what the broker announced.
        answered_bytes: records over this are answered 0x95, announced or not.
    """

    def __init__(self, clock: ManualClock, window: int, packet_bytes: int, answered_bytes: int) -> None:
        self.limits = SimpleNamespace(packet_bytes=packet_bytes)
        self.answered_bytes = answered_bytes
        self.window = window
        self.sent: list[tuple[str, bytes, Callable[[int], None]]] = []
        self.is_open = True
        self.error: TidegateError = BrokerUnreachable("cut")
        self._clock = clock
        self.received_at_ns = clock.boot_ns()

    @property
    def may_publish(self) -> bool:
        return self.is_open and len(self.sent) < self.window

    def packet_bytes(self, topic: str, payload_bytes: int) -> int:
        return payload_bytes + len(topic)

    def publish(self, topic: str, payload: bytes, done: Callable[[int], None], *, is_retained: bool = False) -> None:
        assert self.may_publish
        self.sent.append((topic, payload, done))

    def answer(self, at: int, code: int) -> bytes:
        _, payload, done = self.sent.pop(at)
        self.received_at_ns = self._clock.boot_ns()
        done(code)
        return payload


def _finish(coroutine: object) -> None:
    """Run what never really waits: the source is in memory."""
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration:
        return
    raise AssertionError("the sender waited for something")


class SenderUnderChance(RuleBasedStateMachine):
    """No record counts as delivered without its PUBACK; in the end every record is.

    The broker refuses the topics in `refused`, and answers 0x95 to what is over its limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.source = MemorySource()
        self.session: ScriptedSession | None = None
        self.taken: set[int] = set()  # What the broker said it took.
        self.recently_taken: dict[int, int] = {}
        self.answered_too_large: set[int] = set()
        self.requested: set[int] = set()
        self.refused: dict[str, int] = {}
        self.topics = Topics("g")
        self.seq = 0

    @initialize(
        is_in_order=st.booleans(), stored=st.lists(st.tuples(_KINDS, _SIZES), max_size=30),
        share=st.sampled_from([0.1, 0.5, 1.0]), bytes_per_s=st.sampled_from([4096, 4096 * 1000, inf]),
    )  # fmt: skip
    def start(
        self, is_in_order: bool, stored: list[tuple[RecordType, int]], share: float, bytes_per_s: float
    ) -> None:  # fmt: skip
        for kind, payload_bytes in stored:
            self.source.append(self._record(kind, payload_bytes))
        random = Random(1)
        self.is_in_order = is_in_order
        self.sender = Sender(
            self.source,
            Delivery(gateway="g", is_in_order=is_in_order, backlog_share=share, backlog_bytes_per_s=bytes_per_s),
            clock=self.clock,
            random=random,
            backoff=Backoff(random),
            reports=Reports("broker", lambda kind, severity, data: None),
        )

    @rule(records=st.lists(st.tuples(_KINDS, _SIZES), max_size=12))
    def store(self, records: list[tuple[RecordType, int]]) -> None:
        for kind, payload_bytes in records[: _RECORDS_LIMIT - self.seq]:
            self.source.append(self._record(kind, payload_bytes))
        self._send()

    @rule(
        window=st.integers(1, 6), limit=st.sampled_from([10_000, 10_000, _SMALL_BYTES]),
        answered=st.sampled_from([10_000, _SMALL_BYTES]),
    )  # fmt: skip
    def connect(self, window: int, limit: int, answered: int) -> None:
        if self.session is None:
            self.session = ScriptedSession(self.clock, window, limit, answered)
            _finish(self.sender.open(self.session))
            self._send()

    @rule(leaf=st.sampled_from(["r/data", "r/event", "checkpoint"]), code=st.sampled_from([0x10, 0x87]))
    def refuse_topic(self, leaf: str, code: int) -> None:
        self.refused[f"tidegate/v1/g/{leaf}"] = code

    @rule()
    def take_all_topics(self) -> None:
        self.refused.clear()

    @rule(count=st.integers(1, 6))
    def answer(self, count: int) -> None:
        """As the broker's limit and refused topics demand."""
        for _ in range(count):
            if self.session is not None and self.session.sent:
                topic, payload, _ = self.session.sent[0]
                is_too_large = len(payload) > self.session.answered_bytes
                self._answer(0, 0x95 if is_too_large else self.refused.get(topic, 0))

    @rule(code=st.sampled_from([0x00, 0x10, 0x80, 0x87, 0x95, 0x97]), at=st.integers(0, 5))
    def answer_anything(self, code: int, at: int) -> None:
        if self.session is not None and self.session.sent:
            self._answer(min(at, len(self.session.sent) - 1), code)

    @rule(is_too_large=st.booleans())
    def cut(self, is_too_large: bool) -> None:
        if self.session is not None:
            session, self.session = self.session, None
            session.is_open = False
            if is_too_large:
                session.error = BrokerRefused("too large", 0x95)
            self.sender.close(session)
            owed = self.sender.queue.to_resend.union(self.sender.queue.to_repeat)
            to_resend = {n for first, last in owed for n in range(first, last + 1)}
            backlog = {n for first, last in self.sender.queue.backlog for n in range(first, last + 1)}
            refused = self.sender.topics._by_topic.values()
            held = {n for r in refused for f, last in r.held.union(r.held_resends) for n in range(f, last + 1)}
            window = {n for n, at in self.recently_taken.items() if session.received_at_ns - at <= 60 * _S}
            assert window & self.source.records.keys() <= to_resend | backlog | held | set(self.sender.queue.unsendable)

    @rule(seconds=st.sampled_from([0.1, 2, 61]))
    def wait(self, seconds: float) -> None:
        self.clock.advance_ns(round(seconds * _S))
        self._send()

    @rule(first=st.integers(0, _RECORDS_LIMIT), count=st.integers(1, 20))
    def request(self, first: int, count: int) -> None:
        numbers = range(first, min(first + count, self.source.durable_end()))
        self.sender.request(IntervalSet((number, number) for number in numbers))
        self.requested |= set(numbers)
        self._send()

    @rule(count=st.integers(1, 5))
    def drop_oldest(self, count: int) -> None:
        for _ in range(count):
            self.source.drop(self.source.oldest())

    @invariant()
    def only_what_the_broker_took_is_delivered(self) -> None:
        assert self.source.acknowledged <= self.taken

    @invariant()
    def every_stored_record_is_somewhere(self) -> None:
        if not hasattr(self, "sender"):
            return
        queue = self.sender.queue
        places = set(self.sender.in_flight) | self.source.acknowledged | set(queue.unsendable)
        places |= {n for first, last in queue.backlog for n in range(first, last + 1)}
        places |= {n for r in self.sender.topics._by_topic.values() for f, last in r.held for n in range(f, last + 1)}
        places |= set(range(queue.next_live, self.source.durable_end()))
        assert self.source.records.keys() <= places

    @invariant()
    def the_counts_add_up(self) -> None:
        if hasattr(self, "sender"):
            counts, queue = self.sender.counts, self.sender.queue
            assert counts.delivered == len(self.source.acknowledged)
            undelivered = sum(not flight.is_resend for flight in self.sender.in_flight.values())
            undelivered += queue.count(self.source.durable_end()) + self.sender.topics.held
            stored = self.source.records.keys() - self.source.acknowledged
            assert len(stored) <= undelivered <= self.source.durable_end() - counts.delivered

    def teardown(self) -> None:
        """On the open connection, all that the broker takes is acknowledged; without its limits, everything is."""
        if not hasattr(self, "sender"):
            return
        self.connect(window=6, limit=10_000, answered=10_000)
        if not self.is_in_order:  # In order, the first refused record holds all others.
            refused = {n for n, record in self.source.records.items() if self._topic(record) in self.refused}
            self._expect_delivered(except_for=refused)
        self.take_all_topics()
        self._expect_delivered()
        self.cut(is_too_large=False)
        self.connect(window=6, limit=10_000, answered=10_000)
        self._expect_delivered()

    def _expect_delivered(self, except_for: Set[int] = frozenset()) -> None:
        """Within some time, on this connection; what was set aside waits for the next one."""
        session, unsendable = self.session, self.sender.queue.unsendable
        for _ in range(3_000):
            is_delivered = self.source.records.keys() <= self.source.acknowledged | unsendable.keys() | except_for
            if is_delivered and not self.sender.queue.requested:
                break
            self.answer(6)
            self.wait(61)
        else:
            raise AssertionError("not everything was delivered")
        assert self.session is session
        for number, why in unsendable.items():
            record = self.source.records.get(number)
            assert record is None or why.is_final or number in self.answered_too_large or self._is_over_limit(record)

    def _is_over_limit(self, record: bytes) -> bool:
        size_bytes = self.session.packet_bytes(self._topic(record), len(record))
        return size_bytes > self.session.limits.packet_bytes

    def _topic(self, record: bytes) -> str:
        return self.topics.label(record).topic

    def _answer(self, at: int, code: int) -> None:
        payload = self.session.answer(at, code)
        seq = parse(payload).seq
        if code == 0:
            self.taken.add(seq)
            self.recently_taken[seq] = self.clock.boot_ns()
        elif code == 0x95:
            self.answered_too_large.add(seq)
        self.sender.commit()
        self._send()

    def _record(self, kind: RecordType, payload_bytes: int) -> bytes:
        record = unsigned_record(self.seq, kind, payload_bytes)
        self.seq += 1
        return record

    def _send(self) -> None:
        if self.session is not None:
            before = len(self.session.sent)
            _finish(self.sender.send(self.session))
            sent = [parse(payload).seq for _, payload, _ in self.session.sent[before:]]
            fresh = [seq for seq in sent if seq not in self.taken]  # What goes for a third time comes last.
            assert not self.is_in_order or fresh == sorted(fresh)
            self.sender.next_wakeup_ns()


TestSenderUnderChance = SenderUnderChance.TestCase
TestSenderUnderChance.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_a_sender_at_rest_asks_for_no_time() -> None:
    """An uplink without work must not turn in circles."""

    async def run() -> int | None:
        random = Random(1)
        source = MemorySource([unsigned_record(0)])
        sender = Sender(
            source, Delivery(gateway="g"), clock=ManualClock(), random=random, backoff=Backoff(random),
            reports=Reports("b", lambda kind, severity, data: None),
        )  # fmt: skip
        session = ScriptedSession(ManualClock(), 4, 10_000, 10_000)
        await sender.open(session)
        await sender.send(session)
        session.answer(0, 0)
        await sender.send(session)
        return sender.next_wakeup_ns()

    assert asyncio.run(run()) is None
