"""Whatever a broker sends in place of messages: the connection ends with a sentence, and nothing is acknowledged."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.demo.broker_packets import Message, encode_publish
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.mqtt.codec import MalformedPacket, Property, Splitter, encode_properties, packet
from edge.relay import receive
from edge.relay.receive import Arrival, Receiver, decode_publish, decode_suback
from tests.edge.relay.wire import ACCESS, CONNACK, Wire, accepted


def published(message: Message, packet_id: int = 1) -> bytes:
    return encode_publish(message, packet_id, message.qos, is_duplicate=False, is_retained=message.is_retained)


SUBACK = packet(0x90, b"\0\1\0", b"\1\1\1")
_topics = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=30)
_properties = st.fixed_dictionaries(
    {},
    optional={
        Property.CONTENT_TYPE: st.just("application/cbor"),
        Property.MESSAGE_EXPIRY: st.integers(0, 2**32 - 1),
        Property.USER_PROPERTY: st.lists(st.tuples(st.just("a"), st.just("b")), min_size=1, max_size=3),
    },
)
_messages = st.builds(
    Message, _topics, st.binary(max_size=300), st.sampled_from([0, 1]), st.booleans(), properties=_properties
)
_packets = st.one_of(
    st.builds(published, _messages),
    st.sampled_from([SUBACK, CONNACK, b"\xd0\0", b"\x40\2\0\1", b"\xe0\0", packet(0xE0, b"\x8b")]),
    st.builds(packet, st.integers(0, 255), st.binary(max_size=60)),
    st.binary(max_size=60),
)


@given(_messages, st.integers(1, 65_535))
def test_a_message_is_decoded_as_the_embedded_broker_encodes_it(message: Message, packet_id: int) -> None:
    [(first_byte, body)] = Splitter(10_000).feed(published(message, packet_id))

    assert decode_publish(first_byte, body) == Arrival(message.topic, message.payload, packet_id if message.qos else 0)


@given(st.integers(0, 255), st.binary(max_size=80))
def test_any_bytes_are_a_message_or_malformed(first_byte: int, body: bytes) -> None:
    with suppress(MalformedPacket):
        arrival = decode_publish(first_byte, body)
        assert arrival.topic
        assert bool(arrival.packet_id) == bool(first_byte & 2)
    with suppress(MalformedPacket):
        packet_id, codes = decode_suback(body)
        assert body.startswith(packet_id.to_bytes(2, "big"))
        assert body.endswith(codes)


@given(st.lists(_packets, max_size=8), st.integers(1, 50))
@settings(max_examples=300)
async def test_any_packets_end_the_connection_with_a_sentence_or_are_taken(pieces: list[bytes], cut: int) -> None:
    receiver = Receiver(ACCESS)
    wire = accepted(receiver)
    receiver.subscribe()
    wire.written.clear()
    stream = b"".join(pieces)

    for at in range(0, len(stream), cut):
        receiver.data_received(stream[at : at + cut])

    assert wire.written == []
    if receiver.ended.done():
        error = receiver.ended.result()
        assert isinstance(error, (BrokerUnreachable, BrokerRefused))
        assert str(error).startswith("broker 127.0.0.1:1 ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x34\x06\x00\x01t\x00\x01\x00", "PUBLISH with flags 4 is not expected here"),
        (b"\x32\x06\x00\x01t\x00\x00\x00", "packet identifier 0"),
        (b"\x30\x03\x00\x00\x00", "without a topic"),
        (b"\x30\x05\x00\x09t\x00\x00", "packet ends"),
        (b"\x30\x07\x00\x01t\x03\x23\x00\x01", "property 35 has no place here"),
        (b"\x30\xff\xff\xff\xff\x7f", "longer than four bytes"),
        (b"\x30\xff\xff\xff\x7f", "at most 262144 are taken"),
        (packet(0x90, b"\0\2\0", b"\1\1\1"), "another packet identifier"),
        (packet(0x90, b"\0\1\0", b"\1\1"), "2 reason codes"),
        (SUBACK + SUBACK, "SUBACK is not expected here"),
        (CONNACK, "CONNACK is not expected here"),
        (b"\x40\2\0\1", "PUBACK is not expected here"),
        (b"\xd0\1\0", "PINGRESP is not expected here"),
        (b"\x82\0", "SUBSCRIBE with flags 2 is not expected here"),
        (b"\0\0", "reserved packet type"),
    ],
)
async def test_a_packet_that_breaks_the_rules_is_named(data: bytes, reason: str) -> None:
    receiver = Receiver(ACCESS)
    accepted(receiver)
    receiver.subscribe()

    receiver.data_received(data)

    assert reason in str(receiver.ended.result())


async def test_nothing_is_taken_before_the_broker_has_accepted() -> None:
    receiver = Receiver(ACCESS)
    receiver.connection_made(Wire())

    receiver.data_received(published(Message("t", b"", qos=1)))

    assert "before CONNACK" in str(receiver.ended.result())


async def test_a_broker_of_another_version_is_named() -> None:
    receiver = Receiver(ACCESS)
    receiver.connection_made(Wire())

    receiver.data_received(b"\x20\x02\x00\x01")

    assert str(receiver.ended.result()) == "broker 127.0.0.1:1 does not speak MQTT 5"


async def test_a_subscription_that_the_broker_refuses_is_named() -> None:
    receiver = Receiver(ACCESS)
    accepted(receiver)
    receiver.subscribe()

    receiver.data_received(packet(0x90, b"\0\1\0", b"\1\x87\1"))

    with pytest.raises(BrokerRefused, match=r"the topic tidegate/v1/\+/checkpoint: it does not auth"):
        await receiver.receive()


async def test_a_flood_of_messages_that_need_no_answer_is_read_no_further_than_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Receive Maximum does not bound messages of QoS 0."""
    monkeypatch.setattr(receive, "_HELD_BYTES", 1_000)
    receiver = Receiver(ACCESS)
    wire = accepted(receiver)
    message = published(Message("tidegate/v1/line-9/status", b"x" * 400))

    while wire.is_reading:
        receiver.data_received(message)

    assert len(await receiver.receive()) == 3
    assert wire.is_reading


async def test_a_long_list_of_gateways_is_asked_for_in_packets_that_a_broker_takes() -> None:
    """Configurations such as configs/dmz limit the bytes of a packet."""
    receiver = Receiver(ACCESS, [f"{number:064}" for number in range(41)])
    wire = accepted(receiver)
    receiver.subscribe()
    packets = [packet for data in wire.written for packet in Splitter(2**17).feed(data)]

    for number, count in ((1, 60), (3, 3)):
        receiver.data_received(packet(0x90, number.to_bytes(2, "big") + b"\0", b"\1" * count))
        assert not receiver.is_subscribed
    receiver.data_received(packet(0x90, b"\0\2\0", b"\1" * 60))

    assert receiver.is_subscribed
    assert [first_byte for first_byte, _ in packets] == [0x82, 0x82, 0x82, 0xA2]
    assert max(len(body) for _, body in packets) < 6_000


async def test_acknowledgements_leave_in_one_write_and_none_for_what_asks_for_none() -> None:
    receiver = Receiver(ACCESS)
    wire = accepted(receiver)
    for packet_id in (0, 1, 0, 65_535):
        receiver.data_received(published(Message("t", b"", qos=int(packet_id > 0)), packet_id))

    receiver.acknowledge(await receiver.receive())

    assert wire.written == [b"\x40\x02\x00\x01\x40\x02\xff\xff"]


async def test_a_relay_that_only_receives_keeps_its_connection_alive() -> None:
    """A broker cuts a client that sends nothing, however much it was sent itself (section 3.1.2.10)."""
    receiver = Receiver(ACCESS)
    wire = Wire()
    receiver.connection_made(wire)
    receiver.data_received(CONNACK)
    for _ in range(2):
        receiver.data_received(published(Message("t", b"", qos=0)))
        receiver._check_keep_alive()
    pings = wire.written.count(b"\xc0\0")

    receiver._check_keep_alive()

    assert pings == 3
    assert str(receiver.ended.result()) == "broker 127.0.0.1:1 stopped answering"


async def test_limits_of_nothing_are_refused() -> None:
    receiver = Receiver(ACCESS)

    accepted(receiver, packet(0x20, b"\0\0", encode_properties({Property.RECEIVE_MAXIMUM: 0})))

    assert "a limit of 0" in str(receiver.ended.result())
