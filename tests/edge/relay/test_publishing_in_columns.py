"""Many messages at once are the same on the wire as one by one, and each answer counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.demo.broker_packets import Message, decode_publish
from edge.errors import BrokerUnreachable
from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import Property, Splitter, encode_properties, encode_text, packet
from edge.relay.publish import ViewConnection, connect_view
from tests.edge.relay.wire import ACCESS, accepted
from tests.support.faulty_broker import FaultyBroker
from tests.support.waiting import until

_names = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=30)
_messages = st.lists(st.tuples(_names, st.binary(max_size=20_000)), max_size=8)


@pytest.fixture
async def broker() -> AsyncIterator[FaultyBroker]:
    async with FaultyBroker() as running:
        yield running


@pytest.fixture
def access(broker: FaultyBroker) -> BrokerAccess:
    return BrokerAccess(host="127.0.0.1", port=broker.port, client_id="view")


def columns(messages: list[tuple[str, bytes]]) -> tuple[list[bytes], list[bytes]]:
    return [encode_text(topic) for topic, _ in messages], [payload for _, payload in messages]


@given(_messages, st.booleans(), st.booleans())
def test_messages_in_columns_are_the_packets_of_the_standard(
    messages: list[tuple[str, bytes]], has_qos: bool, is_retained: bool
) -> None:
    async def written() -> bytes:
        connection = ViewConnection(ACCESS)
        wire = accepted(connection)
        task = asyncio.create_task(connection.publish(*columns(messages), qos=has_qos, is_retained=is_retained))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return b"".join(wire.written)

    found = [decode_publish(first & 15, body, {}) for first, body in Splitter(2**20).feed(asyncio.run(written()))]

    assert found == [
        (number * has_qos, Message(topic, payload, int(has_qos), is_retained))
        for number, (topic, payload) in enumerate(messages, 1)
    ]


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0x00, 0x10, 0x87])), max_size=12), st.data())
def test_every_acknowledgement_counts_however_the_stream_is_cut(
    answers: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Those of one size are taken together, and the others one by one."""
    stream = b"".join(
        packet(0x40, number.to_bytes(2, "big"), bytes((code,)) if code or data.draw(st.booleans()) else b"")
        for number, code in answers
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))

    async def left() -> tuple[set[int], str]:
        connection = ViewConnection(ACCESS)
        accepted(connection)
        task = asyncio.create_task(connection.publish(*columns([(f"t{number}", b"") for number in range(1, 10)])))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            connection.data_received(stream[first:last])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not connection.ended.done()
        return set(connection._unacknowledged), connection.refusal

    first_answers = dict(reversed(answers))
    refused = [number for number, code in first_answers.items() if code == 0x87]
    unacknowledged, refusal = asyncio.run(left())

    assert unacknowledged == set(range(1, 10)) - set(first_answers)
    assert bool(refusal) == bool(refused)
    assert not refusal or any(f"the topic t{number}: it does not authorize" in refusal for number in refused)


@pytest.mark.parametrize("qos", [0, 1])
async def test_more_messages_than_packet_identifiers_arrive_in_order(
    broker: FaultyBroker, access: BrokerAccess, qos: int
) -> None:
    received: list[bytes] = []
    broker.on_publish = lambda client, message: received.append(message.payload)
    payloads = [b"%d" % number for number in range(20_000)]

    async with connect_view(access) as connection:
        await connection.publish([encode_text("t")] * len(payloads), payloads, qos=qos)
        await until(lambda: len(received) == len(payloads))

    assert received == payloads
    assert connection.refusal == ""


async def test_no_more_than_the_broker_takes_are_unacknowledged(broker: FaultyBroker, access: BrokerAccess) -> None:
    broker.script.properties[Property.RECEIVE_MAXIMUM] = 3
    broker.script.answer = lambda message, count: 0 if count <= 4 else None

    async with connect_view(access) as connection:
        task = asyncio.create_task(connection.publish([encode_text("t")] * 20, [b""] * 20))
        await until(lambda: broker.received["PUBLISH"] >= 5)
        connection.write(b"\xc0\0")
        await until(lambda: broker.received["PINGREQ"] == 2)  # All that was sent before has arrived.
        task.cancel()

    assert 5 <= broker.received["PUBLISH"] <= 7


async def test_the_first_answer_is_followed_at_once(broker: FaultyBroker, access: BrokerAccess) -> None:
    """Mosquitto holds back the others until TCP has acknowledged it: 430 messages a second, where nothing is sent."""
    broker.script.properties[Property.RECEIVE_MAXIMUM] = 20
    broker.script.answer = lambda message, count: 0 if count == 1 else None

    async with connect_view(access) as connection:
        task = asyncio.create_task(connection.publish([encode_text("t")] * 40, [b""] * 40))
        await until(lambda: broker.received["PUBLISH"] == 21)
        task.cancel()


async def test_a_message_larger_than_the_broker_takes_is_named_and_the_others_are_sent(
    broker: FaultyBroker, access: BrokerAccess
) -> None:
    """Sending it would end the connection (MQTT 5.0, section 3.2.2.3.6)."""
    broker.script.properties[Property.MAXIMUM_PACKET_SIZE] = 1_000
    received: list[str] = []
    broker.on_publish = lambda client, message: received.append(message.topic)

    async with connect_view(access) as connection:
        await connection.publish(*columns([("a", b""), ("large", b"x" * 1_000), ("b", b"")]))

    assert received == ["a", "b"]
    assert "too few for the topic large" in connection.refusal


async def test_a_publisher_that_waits_for_answers_learns_that_the_connection_is_lost(
    broker: FaultyBroker, access: BrokerAccess
) -> None:
    broker.script.answer = lambda message, count: None
    async with connect_view(access) as connection:
        task = asyncio.create_task(connection.publish([encode_text("t")], [b""]))
        await until(lambda: broker.received["PUBLISH"])
        await broker.kill()

        with pytest.raises(BrokerUnreachable, match="it closed the connection"):
            await task


@pytest.mark.parametrize("answer", [b"\x40\x02\x7f\xff", b"\x40\x02\x00\x00", b"\x32\x05\x00\x01t\x00\x01", b"\x90\0"])
async def test_what_a_publisher_cannot_be_sent_ends_the_connection(answer: bytes) -> None:
    """A PUBACK for an identifier never used, a PUBLISH, a SUBACK."""
    connection = ViewConnection(ACCESS)
    accepted(connection)

    connection.data_received(answer)

    assert "sent what is not MQTT 5" in str(connection.ended.result())


async def test_a_broker_that_keeps_no_values_is_sent_none_to_keep() -> None:
    connection = ViewConnection(ACCESS)
    wire = accepted(connection, packet(0x20, b"\0\0", encode_properties({Property.RETAIN_AVAILABLE: 0})))

    await connection.publish([encode_text("t")], [b"1"], qos=0)

    assert wire.written == [b"\x30\x05\x00\x01t\x001"]
