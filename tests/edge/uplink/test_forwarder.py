"""What is stored arrives, whatever the broker does, and nothing counts as delivered that is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from edge.demo.broker_packets import Message
from edge.intervals import IntervalSet
from edge.mqtt.codec import Property, packet
from edge.seal import RecordType, parse
from edge.testing.clock import ManualClock
from tests.support.faulty_broker import FaultyBroker
from tests.support.source import MemorySource, unsigned_record

Forward = Callable[..., Any]
_S = 10**9
DATA_TOPIC = "tidegate/v1/line-4/r/data"


def chain(count: int, first: int = 0) -> list[bytes]:
    return [unsigned_record(seq) for seq in range(first, first + count)]


def seqs(messages: list[Message]) -> list[int]:
    return [parse(message.payload).seq for message in messages if not message.topic.endswith("/status")]


@pytest.fixture
def arrived(broker: FaultyBroker) -> list[Message]:
    messages: list[Message] = []
    broker.on_publish = lambda client, message: messages.append(message)
    return messages


async def test_everything_stored_is_delivered_once_and_reported(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    source = MemorySource(chain(500))

    running = forward(source)
    await running.until_delivered()

    assert sorted(seqs(arrived)) == list(range(500))
    assert running.kinds() == ["uplink.up"]
    snapshot = running.forwarder.snapshot()
    assert (snapshot.state, snapshot.delivered, snapshot.waiting, snapshot.in_flight) == ("up", 500, 0, 0)
    assert snapshot.reason_codes == {0: 500}
    assert broker.received["SUBSCRIBE"] == 0


async def test_each_record_goes_to_the_topic_of_its_type(arrived: list[Message], forward: Forward) -> None:
    kinds = [kind for kind in RecordType if kind is not RecordType.EPOCH]
    source = MemorySource([unsigned_record(0), *(unsigned_record(n + 1, kind) for n, kind in enumerate(kinds))])

    await forward(source).until_delivered()

    topics = {parse(m.payload).type: (m.topic, m.is_retained) for m in arrived if not m.topic.endswith("/status")}
    assert topics.pop(RecordType.CHECKPOINT) == ("tidegate/v1/line-4/checkpoint", True)
    assert topics == {kind: (f"tidegate/v1/line-4/r/{kind.name.lower()}", False) for kind in topics}
    assert len(topics) == len(RecordType) - 1


async def test_a_fresh_record_overtakes_the_backlog(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    broker.script.properties[Property.RECEIVE_MAXIMUM] = 4
    source = MemorySource(chain(2_000))
    running = forward(source)
    await running.until(lambda: len(source.acknowledged) > 20)

    running.append(unsigned_record(2_000))
    await running.until_delivered()

    assert seqs(arrived).index(2_000) < 1_000
    rest = [seq for seq in seqs(arrived) if seq != 2_000]
    assert rest == sorted(rest)


@pytest.mark.parametrize("is_in_order", [False, True], ids=["live first", "in order"])
async def test_the_backlog_goes_at_its_pace_and_only_in_order_do_fresh_records_wait_for_it(
    broker: FaultyBroker, arrived: list[Message], forward: Forward, is_in_order: bool
) -> None:
    """The broker acknowledges at once, as one does whose relay is far behind."""
    clock = ManualClock()
    source = MemorySource(chain(200))
    running = forward(source, clock=clock, is_in_order=is_in_order, backlog_bytes_per_s=4096 * 100)
    for turn in range(1, 6):
        await running.until(lambda turn=turn: len(seqs(arrived)) - (turn - 1) * (not is_in_order) >= 5 * turn)
        running.append(unsigned_record(199 + turn))
        if not is_in_order:
            await running.until(lambda turn=turn: 199 + turn in seqs(arrived))
        for _ in range(20):  # Long enough for what must not be sent.
            await asyncio.sleep(0.001)
        assert sum(seq < 200 for seq in seqs(arrived)) <= 6 * turn
        clock.advance_ns(_S)
        running.forwarder.wake()

    await _let_time_pass(running, clock)
    assert is_in_order == (seqs(arrived) == sorted(seqs(arrived)))
    assert sorted(seqs(arrived)) == list(range(205))


async def test_in_order_nothing_overtakes(broker: FaultyBroker, arrived: list[Message], forward: Forward) -> None:
    source = MemorySource(chain(300))
    running = forward(source, is_in_order=True)
    await running.until(lambda: len(source.acknowledged) > 20)

    running.append(*chain(20, 300))
    await running.until_delivered()

    assert seqs(arrived) == list(range(320))


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x97, 0x99])
async def test_a_refused_record_is_kept_said_once_and_sent_again(
    broker: FaultyBroker, forward: Forward, code: int
) -> None:
    clock = ManualClock()
    broker.script.answer = lambda message, count: code
    source = MemorySource(chain(100, 1))
    running = forward(source, clock=clock)
    await running.until(lambda: running.forwarder.snapshot().reason_codes.get(code, 0) > 0)
    snapshot = running.forwarder.snapshot()
    assert source.acknowledged == set()
    assert snapshot.state == "refused"
    assert f"(0x{code:02X}): " in snapshot.reason
    assert DATA_TOPIC in snapshot.reason

    broker.script.answer = lambda message, count: 0
    await _let_time_pass(running, clock)

    reported = [(kind, data["reason_code"]) for kind, _, data in running.events if data.get("topic") == DATA_TOPIC]
    assert reported == [("uplink.refused", code), ("uplink.accepted", 0)]
    snapshot = running.forwarder.snapshot()
    assert (snapshot.refused_topics, snapshot.state, snapshot.reason, snapshot.connects) == ({}, "up", "", 1)


async def test_a_record_without_a_subscriber_is_not_delivered(broker: FaultyBroker, forward: Forward) -> None:
    broker.script.answer = None
    clock = ManualClock()
    source = MemorySource(chain(30))
    running = forward(source, clock=clock)
    await running.until(lambda: running.forwarder.snapshot().reason_codes.get(0x10, 0) > 0)

    assert source.acknowledged == set()
    assert "uplink.no_subscriber" in running.kinds()
    assert running.forwarder.snapshot().state == "no_subscriber"
    broker.script.answer = lambda message, count: 0
    await _let_time_pass(running, clock)

    assert running.forwarder.snapshot().connects == 1


async def test_a_record_without_a_subscriber_is_delivered_where_that_is_the_setting(
    broker: FaultyBroker, forward: Forward
) -> None:
    broker.script.answer = None
    source = MemorySource(chain(30))

    await forward(source, is_delivered_without_subscriber=True).until_delivered()


async def test_one_refused_topic_does_not_stop_the_others(broker: FaultyBroker, forward: Forward) -> None:
    broker.script.answer = lambda message, count: 0x87 if message.topic.endswith("/event") else 0
    kinds = [RecordType.EVENT if n % 3 == 0 else RecordType.DATA for n in range(150)]
    source = MemorySource([unsigned_record(n, kind) for n, kind in enumerate(kinds)])
    data = {n for n, kind in enumerate(kinds) if kind is RecordType.DATA} | {0}

    running = forward(source, clock=ManualClock())
    await running.until(lambda: source.acknowledged >= data)

    assert source.acknowledged == data
    assert running.forwarder.snapshot().refused_topics == {"tidegate/v1/line-4/r/event": 0x87}
    assert running.forwarder.snapshot().state == "refused"


async def test_what_a_refused_topic_left_behind_does_not_stop_the_others(
    broker: FaultyBroker, forward: Forward
) -> None:
    """Days of refused records must not stand in front of the backlog of topics that the broker takes."""
    broker.script.answer = lambda message, count: 0x87 if message.topic.endswith("/event") else 0
    kinds = [RecordType.EVENT] * 3_000 + [RecordType.DATA] * 100
    source = MemorySource([unsigned_record(n, kind) for n, kind in enumerate(kinds)])

    running = forward(source, clock=ManualClock())
    await running.until(lambda: source.acknowledged >= set(range(3_000, 3_100)))

    assert running.forwarder.snapshot().set_aside > 2_900


@pytest.mark.parametrize("is_limit_announced", [True, False])
async def test_every_topic_with_a_record_that_is_too_large_is_named(
    broker: FaultyBroker, forward: Forward, is_limit_announced: bool
) -> None:
    if is_limit_announced:
        broker.script.properties[Property.MAXIMUM_PACKET_SIZE] = 1_000
    broker.script.answer = lambda message, count: 0x95 if len(message.payload) > 1_000 else 0
    source = MemorySource(chain(3))
    for seq, kind in enumerate((RecordType.DATA, RecordType.EVENT, RecordType.DATA), 3):
        source.append(unsigned_record(seq, kind, 2_000))

    running = forward(source, clock=ManualClock())
    await running.until(lambda: running.forwarder.snapshot().unsendable == 3)

    topics = [DATA_TOPIC, "tidegate/v1/line-4/r/event"]
    snapshot = running.forwarder.snapshot()
    assert sorted(data["topic"] for kind, _, data in running.events if kind == "uplink.refused") == topics
    assert (snapshot.state, sorted(snapshot.refused_topics)) == ("refused", topics)
    assert "raise the broker's message size limit (0x95)" in snapshot.reason

    running.forwarder.discard_before(6)

    assert (running.forwarder.snapshot().state, running.forwarder.snapshot().refused_topics) == ("up", {})


@pytest.mark.parametrize("code", [0x87, 0x97])
async def test_a_refused_status_message_is_sent_again(broker: FaultyBroker, forward: Forward, code: int) -> None:
    """Else the topic says "offline" for as long as the connection holds."""
    topic = "tidegate/v1/line-4/status"
    broker.script.answer = lambda message, count: code if message.topic == topic else 0
    clock = ManualClock()
    source = MemorySource(chain(3))
    running = forward(source, clock=clock)
    await running.until(lambda: topic in running.forwarder.snapshot().refused_topics and source.is_delivered)
    assert running.forwarder.snapshot().state == "refused"

    broker.script.answer = lambda message, count: 0
    await _let_time_pass(running, clock, lambda: topic in broker.retained)

    assert json.loads(broker.retained[topic].payload)["online"]
    await running.until(lambda: running.forwarder.snapshot().state == "up")
    assert running.kinds() == ["uplink.up", "uplink.refused", "uplink.accepted"]
    assert running.forwarder.snapshot().connects == 1


@pytest.mark.parametrize("is_limit_announced", [True, False])
async def test_a_record_too_large_for_the_broker_does_not_use_up_a_refused_topics_probe(
    broker: FaultyBroker, forward: Forward, is_limit_announced: bool
) -> None:
    """The relay is away and comes back: all that the broker takes is delivered on the same connection."""
    is_relay_there = False
    if is_limit_announced:
        broker.script.properties[Property.MAXIMUM_PACKET_SIZE] = 1_000

    def answer(message: Message, count: int) -> int:
        if len(message.payload) > 1_000:
            return 0x95
        return 0x00 if is_relay_there or message.topic != DATA_TOPIC else 0x10

    broker.script.answer = answer
    clock = ManualClock()
    source = MemorySource(chain(20))
    running = forward(source, clock=clock)
    await running.until(lambda: running.forwarder.snapshot().set_aside == 19)

    is_relay_there = True
    clock.advance_ns(10 * _S)
    large = source.durable_end()
    running.append(unsigned_record(20, payload_bytes=2_000), *chain(20, 21))
    await _let_time_pass(running, clock, lambda: len(source.acknowledged) == 40)

    assert large not in source.acknowledged
    snapshot = running.forwarder.snapshot()
    assert (snapshot.connects, snapshot.waiting, snapshot.unsendable) == (1, 1, 1)
    assert snapshot.refused_topics == {DATA_TOPIC: 0x95}


async def test_in_order_a_refusal_holds_what_comes_after(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    clock = ManualClock()
    broker.script.properties[Property.RECEIVE_MAXIMUM] = 1
    refused = iter([0, 0, 0, 0, 0x97])
    broker.script.answer = lambda message, count: next(refused, 0)
    source = MemorySource(chain(40))

    running = forward(source, clock=clock, is_in_order=True)
    await _let_time_pass(running, clock)

    assert sorted(set(seqs(arrived))) == seqs(arrived) == list(range(40))
    assert running.forwarder.snapshot().connects == 1


async def test_a_record_over_the_brokers_limit_is_kept_and_the_others_go_on(
    broker: FaultyBroker, forward: Forward
) -> None:
    broker.script.properties[Property.MAXIMUM_PACKET_SIZE] = 1_000
    source = MemorySource(chain(20))
    large = source.append(unsigned_record(20, payload_bytes=2_000))
    source.append(unsigned_record(21))

    running = forward(source)
    await running.until(lambda: len(source.acknowledged) == 21)

    assert large not in source.acknowledged
    assert [data["reason_code"] for kind, _, data in running.events if kind == "uplink.refused"] == [0x95]
    assert (running.forwarder.snapshot().unsendable, running.forwarder.snapshot().connects) == (1, 1)
    broker.script.properties.clear()
    broker.disconnect_clients()
    await running.until_delivered()


async def test_two_gateways_of_one_name_do_not_take_the_session_from_each_other_each_second(
    broker: FaultyBroker, forward: Forward
) -> None:
    running = forward(MemorySource(chain(3)))
    await running.until_delivered()

    broker.disconnect_clients(0x8E)
    await running.until(lambda: running.forwarder.snapshot().state == "down")

    assert "is a second gateway running with this name or certificate? (0x8E)" in running.forwarder.snapshot().reason
    assert running.forwarder._backoff.is_at_limit


async def test_a_broker_that_hangs_up_over_a_large_record_is_not_sent_it_again(
    broker: FaultyBroker, forward: Forward
) -> None:
    def answer(message: Message, count: int) -> int | None:
        if len(message.payload) > 1_000:
            asyncio.get_running_loop().call_soon(broker.disconnect_clients, 0x95)
            return None
        return 0

    broker.script.answer = answer
    source = MemorySource(chain(20))
    large = source.append(unsigned_record(20, payload_bytes=2_000))
    running = forward(source)
    await running.until(lambda: running.forwarder.snapshot().connects == 2)
    await running.until(lambda: len(source.acknowledged) == 20)

    assert large not in source.acknowledged
    assert running.forwarder.snapshot().unsendable == 1


@pytest.mark.requirement("REQ-SEND-02")
async def test_what_was_not_acknowledged_goes_again_after_a_cut(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    broker.script.answer = lambda message, count: 0 if count < 100 else None
    source = MemorySource(chain(200))
    running = forward(source, resend_window_ns=0)
    await broker.wait_until(lambda: broker.received["PUBLISH"] >= 100)
    before = set(source.acknowledged)

    broker.script.answer = lambda message, count: 0
    broker.disconnect_clients()
    await running.until_delivered()

    assert len(before) < 100
    assert set(seqs(arrived)) == set(range(200))


async def test_what_a_killed_broker_forgot_is_sent_again(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    """An acknowledgement says that the broker took a record, not that its disk has it."""
    source = MemorySource(chain(200))
    running = forward(source)
    await running.until_delivered()
    await broker.kill()
    arrived.clear()

    await broker.start()
    await running.until(lambda: running.forwarder.snapshot().resent >= 200)
    await running.until(lambda: running.forwarder.snapshot().to_resend == 0)
    await broker.wait_until(lambda: set(seqs(arrived)) == set(range(200)))

    assert running.forwarder.snapshot().delivered == 200


async def test_what_is_sent_again_while_the_relay_is_away_counts_once_as_acknowledged(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    """Else more is acknowledged than was ever sealed, and less was sent again than came again."""
    kinds = (RecordType.DATA, RecordType.EVENT, RecordType.GAP)
    source = MemorySource([unsigned_record(seq, kinds[seq % 3]) for seq in range(180)])
    clock = ManualClock()
    running = forward(source, clock=clock)
    await running.until_delivered()
    await broker.kill()
    arrived.clear()

    broker.script.answer = lambda message, count: 0x10
    await broker.start()
    await _let_time_pass(running, clock, lambda: len(running.forwarder.snapshot().refused_topics) == 4)  # EPOCH too.
    away = running.forwarder.snapshot()
    broker.script.answer = lambda message, count: 0
    arrived.clear()
    await _let_time_pass(running, clock, lambda: set(seqs(arrived)) == set(range(180)))
    await running.until(lambda: not running.forwarder.snapshot().in_flight)

    back = running.forwarder.snapshot()
    assert (away.waiting, away.set_aside) == (0, 0)
    assert away.to_resend > 100
    assert (back.delivered, back.waiting, back.to_resend) == (180, 0, 0)
    assert back.published == back.delivered + back.resent
    assert back.reason_codes[0] == 2 * 180


async def test_a_broker_that_acknowledges_twice_is_neither_an_attacker_nor_believed_twice(
    broker: FaultyBroker, forward: Forward
) -> None:
    source = MemorySource(chain(50))
    running = forward(source)
    await running.until_delivered()

    for packet_id in range(1, 52):
        broker.inject(
            packet(0x40, packet_id.to_bytes(2, "big"), b"") + packet(0x40, packet_id.to_bytes(2, "big"), b"\x87")
        )
    running.append(unsigned_record(50))
    await running.until_delivered()

    snapshot = running.forwarder.snapshot()
    assert running.kinds() == ["uplink.up"]
    assert (snapshot.connects, snapshot.delivered, snapshot.reason_codes) == (1, 51, {0: 51})


@pytest.mark.parametrize("is_in_order", [False, True])
@pytest.mark.parametrize("count_per_connection", [3, 8])
async def test_a_broker_that_disconnects_every_few_messages_makes_progress(
    broker: FaultyBroker, arrived: list[Message], forward: Forward, count_per_connection: int, is_in_order: bool
) -> None:
    """What it may have lost goes again, what waits goes between, and what goes again stays bounded."""

    def answer(message: Message, count: int) -> int:
        if count % count_per_connection == 0:
            asyncio.get_running_loop().call_soon(broker.disconnect_clients)
        return 0

    broker.script.answer = answer
    clock = ManualClock()
    source = MemorySource(chain(100))
    running = forward(source, clock=clock, in_flight=8, is_in_order=is_in_order)
    seconds = 0

    def is_over() -> bool:
        nonlocal seconds
        seconds += 1
        return source.is_delivered or seconds > 2_000

    await _let_time_pass(running, clock, is_over)

    snapshot = running.forwarder.snapshot()
    assert set(seqs(arrived)) == source.acknowledged == set(range(100))
    assert snapshot.delivered == 100
    assert snapshot.published == snapshot.delivered + snapshot.resent

    arrived.clear()
    before = snapshot.connects
    await _let_time_pass(running, clock, lambda: running.forwarder.snapshot().connects > before + 100)

    assert running.forwarder.snapshot().to_resend < 50
    assert running.forwarder.snapshot().delivered == 100


async def test_what_was_acknowledged_before_the_resend_window_is_not_sent_again(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    clock = ManualClock()
    source = MemorySource(chain(50))
    running = forward(source, clock=clock)
    await running.until_delivered()
    clock.advance_ns(120 * _S)
    running.append(unsigned_record(50))
    await running.until_delivered()
    arrived.clear()

    broker.disconnect_clients()
    await running.until(lambda: "uplink.down" in running.kinds())
    clock.advance_ns(2 * _S)
    running.append(unsigned_record(51))
    await running.until_delivered()
    await broker.wait_until(lambda: 50 in seqs(arrived))

    assert set(seqs(arrived)) == {50, 51}


@pytest.mark.parametrize("is_in_order", [False, True], ids=["live first", "in order"])
async def test_requested_records_go_after_all_others_and_never_fill_the_window(
    broker: FaultyBroker, arrived: list[Message], forward: Forward, is_in_order: bool
) -> None:
    source = MemorySource(chain(1_000))
    running = forward(source, is_in_order=is_in_order, backlog_share=0.25)
    await running.until_delivered()
    arrived.clear()
    broker.script.answer = lambda message, count: None

    requested = IntervalSet([(100, 899)])
    running.forwarder.resend(requested)
    await running.until(lambda: running.forwarder.snapshot().in_flight > 0)
    held = running.forwarder.snapshot()
    running.append(*chain(20, first=1_000))
    await running.until(lambda: running.forwarder.snapshot().in_flight == held.in_flight + 20)

    assert held.in_flight <= held.window // 4
    assert held.to_resend == 800 - held.in_flight
    assert running.forwarder.snapshot().waiting == 0
    assert running.forwarder.is_resending(requested)
    broker.script.answer = lambda message, count: 0
    broker.disconnect_clients()
    await running.until(lambda: not running.forwarder.is_resending(requested))
    await running.until_delivered()
    assert set(seqs(arrived)) >= set(range(100, 900))
    assert running.forwarder.snapshot().delivered == 1_020


async def test_after_a_reconnect_the_newest_checkpoint_goes_first(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    """It carries the key that the records after it are verified with."""
    clock = ManualClock()
    source = MemorySource([*chain(50), unsigned_record(50, RecordType.CHECKPOINT), *chain(30, 51)])
    running = forward(source, clock=clock)
    await running.until_delivered()
    broker.disconnect_clients()
    await running.until(lambda: "uplink.down" in running.kinds())
    for record in (*chain(5, 81), unsigned_record(86, RecordType.CHECKPOINT), *chain(5, 87)):
        source.append(record)
    arrived_before = seqs(arrived)
    arrived.clear()

    clock.advance_ns(2 * _S)
    running.forwarder.wake()
    await running.until_delivered()

    assert arrived_before[0] == 50
    assert seqs(arrived)[0] == 86


async def test_a_broker_that_is_down_at_the_start_costs_nothing_but_time(
    forward: Forward, broker: FaultyBroker
) -> None:
    clock = ManualClock()
    await broker.stop()
    source = MemorySource(chain(10))
    running = forward(source, clock=clock)
    await running.until(lambda: bool(running.events))
    assert running.kinds() == ["uplink.down"]
    assert running.forwarder.snapshot().state == "down"

    await broker.start()
    await _let_time_pass(running, clock)

    assert running.kinds() == ["uplink.down", "uplink.up"]


async def test_a_broker_that_refuses_the_client_is_asked_again_and_reported_once(
    broker: FaultyBroker, forward: Forward
) -> None:
    clock = ManualClock()
    broker.script.connack = 0x87
    source = MemorySource(chain(10))
    running = forward(source, clock=clock)
    await _let_time_pass(running, clock, lambda: broker.received["CONNECT"] >= 4)

    assert running.kinds() == ["uplink.refused"]
    assert running.events[0][2]["reason_code"] == 0x87
    assert running.forwarder.snapshot().state == "refused"

    broker.script.connack = 0
    await _let_time_pass(running, clock)


async def test_an_inbound_message_is_an_event_and_ends_the_connection(broker: FaultyBroker, forward: Forward) -> None:
    source = MemorySource(chain(10))
    running = forward(source)
    await running.until_delivered()

    broker.inject(bytes.fromhex("30 05 0001 74 00 78"))
    await running.until(lambda: running.kinds().count("uplink.up") == 2)

    assert [kind for kind in running.kinds() if kind != "uplink.up"] == ["uplink.inbound"]


async def test_the_status_says_online_and_then_offline(
    broker: FaultyBroker, arrived: list[Message], forward: Forward
) -> None:
    source = MemorySource([*chain(3), unsigned_record(3, RecordType.CHECKPOINT)])
    running = forward(source)
    await running.until_delivered()
    online = json.loads(broker.retained["tidegate/v1/line-4/status"].payload)

    running.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running.task

    offline = json.loads(broker.retained["tidegate/v1/line-4/status"].payload)
    assert (online["online"], online["epoch"], online["seq"]) == (True, b"epoch\0\0\0".hex(), 3)
    assert (offline["online"], offline["seq"]) == (False, 3)
    assert len([message for message in arrived if message.topic.endswith("/status")]) == 2


async def test_a_broken_connection_leaves_the_status_offline(broker: FaultyBroker, forward: Forward) -> None:
    running = forward(MemorySource(chain(3)), clock=ManualClock())
    await running.until_delivered()

    broker.disconnect_clients()
    await running.until(lambda: "uplink.down" in running.kinds())

    assert not json.loads(broker.retained["tidegate/v1/line-4/status"].payload)["online"]


async def test_a_broker_that_keeps_nothing_is_given_a_will_that_is_not_retained(
    broker: FaultyBroker, forward: Forward
) -> None:
    clock = ManualClock()
    broker.script.connack = 0x9A
    source = MemorySource(chain(3))
    running = forward(source, clock=clock)
    await running.until(lambda: bool(running.events))

    broker.script.connack = 0
    await _let_time_pass(running, clock)
    broker.disconnect_clients()
    await running.until(lambda: "uplink.down" in running.kinds())

    status = broker.retained["tidegate/v1/line-4/status"]
    assert json.loads(status.payload)["online"]


async def test_records_dropped_from_a_full_buffer_are_passed_over(broker: FaultyBroker, forward: Forward) -> None:
    broker.script.answer = lambda message, count: None
    source = MemorySource(chain(3_000))
    running = forward(source)
    await broker.wait_until(lambda: broker.received["PUBLISH"] > 1)
    for number in range(2_500):
        source.drop(number)

    broker.script.answer = lambda message, count: 0
    broker.disconnect_clients()
    await running.until_delivered()
    await running.until(lambda: running.forwarder.snapshot().waiting == 0)

    assert running.forwarder.snapshot().waiting == 0


async def test_records_dropped_while_their_topic_is_refused_do_not_stop_the_others(
    broker: FaultyBroker, forward: Forward
) -> None:
    clock = ManualClock()
    broker.script.answer = lambda message, count: 0x10 if message.topic == DATA_TOPIC else 0
    source = MemorySource(chain(600))
    running = forward(source, clock=clock)
    await running.until(lambda: running.forwarder.snapshot().set_aside > 200)
    for number in range(1, 500):
        source.drop(number)

    broker.script.answer = lambda message, count: 0
    await _let_time_pass(running, clock)

    assert running.forwarder.snapshot().connects == 1


async def test_a_damaged_record_is_reported_and_does_not_stop_the_others(forward: Forward) -> None:
    source = MemorySource(chain(5))
    damaged = source.append(b"not a record")
    source.append(unsigned_record(6))

    running = forward(source)
    await running.until(lambda: len(source.acknowledged) == 6)

    assert damaged not in source.acknowledged
    assert "buffer.corrupt" in running.kinds()
    assert running.forwarder.snapshot().connects == 1


async def test_a_wrong_port_speaking_another_protocol_is_survived(forward: Forward) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        running = forward(MemorySource(chain(2)), port=server.sockets[0].getsockname()[1], clock=ManualClock())
        await running.until(lambda: bool(running.events))

    assert running.kinds() == ["uplink.inbound"]
    assert running.events[0][2]["bytes"].startswith(b"220 mail".hex())


async def _let_time_pass(running: Any, clock: ManualClock, is_over: Callable[[], bool] | None = None) -> None:
    """Move the clock on, a second at a time, until all is delivered."""
    while not (is_over or (lambda: running.source.is_delivered))():
        clock.advance_ns(_S)
        running.forwarder.wake()
        await asyncio.sleep(0.001)
