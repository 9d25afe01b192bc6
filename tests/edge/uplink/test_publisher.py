"""The publish-only client against a broker that follows a script."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import edge.mqtt
import edge.uplink
from edge.clock import SystemClock
from edge.demo.broker_packets import Message
from edge.errors import BrokerRefused, BrokerUnreachable, ProtocolViolation
from edge.mqtt.codec import Property
from edge.uplink import BrokerAccess, Publisher, Will, connect
from tests.support.faulty_broker import FaultyBroker

Open = Callable[..., Awaitable[Publisher]]


async def answer_to(publisher: Publisher, topic: str = "t", payload: bytes = b"x") -> int:
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    publisher.session.publish(topic, payload, answered.set_result)
    return await answered


@pytest.mark.parametrize("code", [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x95, 0x97, 0x99])
async def test_the_reason_code_of_a_puback_is_handed_on(broker: FaultyBroker, open_publisher: Open, code: int) -> None:
    broker.script.answer = lambda message, count: code
    publisher = await open_publisher()

    assert await answer_to(publisher) == code


async def test_a_message_without_a_subscriber_is_answered_as_such(broker: FaultyBroker, open_publisher: Open) -> None:
    broker.script.answer = None
    publisher = await open_publisher()

    assert await answer_to(publisher) == 0x10


async def test_payloads_arrive_as_they_were_sent(broker: FaultyBroker, open_publisher: Open) -> None:
    arrived: list[Message] = []
    broker.on_publish = lambda client, message: arrived.append(message)
    publisher = await open_publisher()
    payloads = [bytes([n]) * size for n, size in enumerate((0, 1, 127, 128, 16_383, 16_384, 65_535))]

    for payload in payloads:
        await answer_to(publisher, "a/b", payload)

    assert [(message.topic, message.payload, message.qos) for message in arrived] == [("a/b", p, 1) for p in payloads]


async def test_nothing_but_four_packet_types_ever_leaves(broker: FaultyBroker, open_publisher: Open) -> None:
    broker.script.properties[Property.SERVER_KEEP_ALIVE] = 1
    publisher = await open_publisher()
    await answer_to(publisher)
    await broker.wait_until(lambda: broker.received["PINGREQ"] > 0)
    await publisher.disconnect_gracefully()
    await broker.wait_until(lambda: broker.received["DISCONNECT"] > 0)

    assert set(broker.received) == {"CONNECT", "PUBLISH", "PINGREQ", "DISCONNECT"}


def test_no_line_of_the_uplink_can_write_a_subscription() -> None:
    """One way is a property of the code, not of its configuration."""
    folders = [*edge.uplink.__path__, *edge.mqtt.__path__]
    sources = [path.read_text() for folder in folders for path in Path(folder).rglob("*.py")]

    assert len(sources) > 14
    assert not any(re.search(r"PacketType\.(UN)?SUB|\bsubscribe\(", source) for source in sources)


async def test_the_window_is_the_smaller_of_ours_and_the_brokers(broker: FaultyBroker, open_publisher: Open) -> None:
    broker.script.properties[Property.RECEIVE_MAXIMUM] = 3
    broker.script.answer = lambda message, count: None
    publisher = await open_publisher(in_flight=64)

    while publisher.session.may_publish:
        publisher.session.publish("t", b"", lambda code: None)

    assert publisher.session.in_flight == publisher.session.window == 3
    assert (await open_publisher(in_flight=2, client_id="other")).session.window == 2


async def test_a_topic_is_sent_as_its_alias_once_the_broker_knows_it(
    broker: FaultyBroker, open_publisher: Open
) -> None:
    """An alias that the broker never took would end the connection, so it waits for the acknowledgement."""
    topics: list[str] = []
    broker.on_publish = lambda client, message: topics.append(message.topic)
    broker.script.properties[Property.TOPIC_ALIAS_MAXIMUM] = 1
    publisher = await open_publisher()

    for topic in ("long/topic/one", "long/topic/two") * 3:
        await answer_to(publisher, topic)

    assert topics == ["long/topic/one", "long/topic/two"] * 3
    assert publisher.session._topics["long/topic/one"].is_alias_known
    assert not publisher.session._topics["long/topic/two"].is_alias_known


async def test_what_the_broker_says_of_itself_is_kept(broker: FaultyBroker, open_publisher: Open) -> None:
    broker.script.properties |= {
        Property.MAXIMUM_PACKET_SIZE: 5_000,
        Property.SERVER_KEEP_ALIVE: 7,
        Property.RETAIN_AVAILABLE: 0,
        Property.TOPIC_ALIAS_MAXIMUM: None,
    }
    arrived: list[Message] = []
    broker.on_publish = lambda client, message: arrived.append(message)
    publisher = await open_publisher()
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    publisher.session.publish("t", b"", answered.set_result, is_retained=True)
    await answered

    limits = publisher.session.limits
    assert (limits.packet_bytes, limits.keep_alive_s, limits.topic_aliases) == (5_000, 7, 0)
    assert not arrived[0].is_retained


async def test_the_will_is_said_when_the_connection_breaks_and_not_after_a_farewell(
    broker: FaultyBroker, open_publisher: Open
) -> None:
    said: list[Message] = []
    broker.on_publish = lambda client, message: said.append(message)
    first = await open_publisher(will=Will("status", b"gone"))
    await first.disconnect_gracefully()
    second = await open_publisher(will=Will("status", b"lost"))
    second.abort()
    await broker.wait_until(lambda: bool(said))

    assert [(message.payload, message.is_retained, message.qos) for message in said] == [(b"lost", True, 1)]


async def test_user_name_and_password_are_sent(broker: FaultyBroker, open_publisher: Open) -> None:
    publisher = await open_publisher(username="line-4", password=b"secret")

    assert publisher.is_open
    assert "secret" not in repr(publisher._access)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (0x84, "does not speak MQTT 5"),
        (0x86, "refused the user name or password"),
        (0x87, "does not authorize this client"),
        (0x89, "is busy"),
        (0x9A, "does not keep retained messages"),
        (0xC0, "code of its own"),
    ],
)
async def test_a_refused_connection_is_explained(
    broker: FaultyBroker, open_publisher: Open, code: int, sentence: str
) -> None:
    broker.script.connack = code

    with pytest.raises(BrokerRefused, match=sentence) as refusal:
        await open_publisher()

    assert refusal.value.reason_code == code


async def test_a_broker_of_the_older_protocol_is_refused(broker: FaultyBroker, open_publisher: Open) -> None:
    """Over MQTT 3.1.1 a refused message is acknowledged as if it were taken."""
    broker.script.is_old = True

    with pytest.raises(BrokerRefused, match="does not speak MQTT 5"):
        await open_publisher()


async def test_a_broker_without_acknowledgements_is_refused(broker: FaultyBroker, open_publisher: Open) -> None:
    broker.script.properties[Property.MAXIMUM_QOS] = 0

    with pytest.raises(BrokerRefused, match="QoS 0 only"):
        await open_publisher()


async def test_an_address_without_a_broker_is_explained(open_publisher: Open) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(BrokerUnreachable, match="cannot be reached"):
            await open_publisher(port=held.getsockname()[1])


async def test_a_broker_that_never_answers_is_given_up(broker: FaultyBroker, open_publisher: Open) -> None:
    broker.script.is_mute = True

    with pytest.raises(BrokerUnreachable, match=r"did not answer in 0\.2 s"):
        await open_publisher(connect_timeout_s=0.2)


async def test_a_broker_that_accepts_just_as_we_give_up_is_not_left_with_a_connection(
    broker: FaultyBroker, access: BrokerAccess
) -> None:
    """A timeout cancels the task that waits; here it does so in the turn of the loop that brings CONNACK."""

    def give_up() -> None:
        connecting.cancel()

    connecting = asyncio.create_task(connect(access, clock=SystemClock(), on_change=give_up))

    with pytest.raises(asyncio.CancelledError):
        await connecting

    assert broker.received["CONNECT"] == 1
    await broker.wait_until(lambda: not broker._connections)


async def test_a_broker_that_stops_answering_is_noticed_by_the_keep_alive(
    broker: FaultyBroker, open_publisher: Open
) -> None:
    publisher = await open_publisher(keep_alive_s=1)
    broker.script.is_mute = True

    assert "stopped answering" in str(await publisher.ended)


async def test_a_broker_that_only_answers_pings_is_given_up(broker: FaultyBroker, open_publisher: Open) -> None:
    """Connected and dead: nothing would ever be delivered again."""
    broker.script.answer = lambda message, count: None
    publisher = await open_publisher(keep_alive_s=1)
    publisher.session.publish("t", b"", lambda code: None)

    assert "acknowledges nothing" in str(await publisher.ended)


async def test_a_goodbye_of_the_broker_is_explained(broker: FaultyBroker, open_publisher: Open) -> None:
    publisher = await open_publisher()
    broker.disconnect_clients(0x8B)

    ended = await publisher.ended

    assert isinstance(ended, BrokerRefused)
    assert "is shutting down" in str(ended)


@pytest.mark.parametrize(("code", "sentence"), [(0x9C, "asks to use another server"), (0x9D, "has moved")])
async def test_the_other_server_that_a_broker_names_is_said(
    broker: FaultyBroker, open_publisher: Open, code: int, sentence: str
) -> None:
    publisher = await open_publisher()
    broker.refer_clients(code, "other.example:8883")
    ended = await publisher.ended
    broker.script.connack, broker.script.properties = code, {Property.SERVER_REFERENCE: "other.example:8883"}
    with pytest.raises(BrokerRefused) as refused:
        await open_publisher()

    for error in (ended, refused.value):
        assert sentence in str(error)
        assert f'which is "other.example:8883" (0x{code:02X})' in str(error)
        assert error.is_for_long  # type: ignore[union-attr]


_HOSTILE = {
    "publish": bytes.fromhex("30 05 0001 74 00 78"),
    "publish with QoS 1": bytes.fromhex("32 07 0001 74 0001 00 78"),
    "subscribe answer": bytes.fromhex("90 04 0001 00 00"),
    "authentication": bytes.fromhex("f0 02 18 00"),
    "second CONNACK": bytes.fromhex("20 03 00 00 00"),
    "subscribe": bytes.fromhex("82 07 0001 00 0001 23 01"),
    "reserved type": bytes.fromhex("00 00"),
    "acknowledgement of nothing": bytes.fromhex("40 02 0777"),
    "acknowledgement of identifier 0": bytes.fromhex("40 02 0000"),
    "acknowledgement with flags": bytes.fromhex("42 02 0001"),
    "acknowledgement that is cut": bytes.fromhex("40 01 00"),
    "acknowledgement with an unknown code": bytes.fromhex("40 03 0001 01"),
    "acknowledgement with bytes behind it": bytes.fromhex("40 05 0001 00 00 00"),
    "length of five bytes": bytes.fromhex("40 ffffffff 7f"),
    "packet of 200 MB": bytes.fromhex("40 ffff7f 00"),
    "ping answer with a body": bytes.fromhex("d0 01 00"),
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("name", _HOSTILE)
async def test_what_a_broker_must_not_send_ends_the_connection(
    broker: FaultyBroker, open_publisher: Open, name: str
) -> None:
    broker.script.answer = lambda message, count: None
    answers: list[int] = []
    publisher = await open_publisher()
    publisher.session.publish("t", b"", answers.append)
    await broker.wait_until(lambda: broker.received["PUBLISH"] == 1)

    broker.inject(_HOSTILE[name])
    ended = await publisher.ended

    assert isinstance(ended, ProtocolViolation)
    assert len(ended.data) <= 64
    assert answers == []


async def test_a_request_cut_at_any_byte_counts_for_nothing_unless_the_broker_took_it(
    broker: FaultyBroker, access: BrokerAccess
) -> None:
    taken: list[Message] = []
    broker.on_publish = lambda client, message: taken.append(message)
    whole_bytes = 0
    for cut_at in itertools.count(1):
        broker.script.cut_after_received = cut_at
        if await _publish_once(access):
            assert taken
            break
        whole_bytes = cut_at

    assert whole_bytes > 100


async def test_an_answer_cut_at_any_byte_counts_for_nothing(broker: FaultyBroker, access: BrokerAccess) -> None:
    assert await _publish_once(access)
    answer_bytes = broker.sent_bytes

    delivered = []
    for cut_at in range(1, answer_bytes + 3):
        broker.script.cut_after_sent = cut_at
        delivered.append(await _publish_once(access))

    assert delivered == [False] * (answer_bytes - 1) + [True] * 3


async def _publish_once(access: BrokerAccess) -> bool:
    """Connect and publish one record; whether it counts as delivered when all is over."""
    answers: list[int] = []
    changed = asyncio.Event()
    try:
        publisher = await connect(access, clock=SystemClock(), on_change=changed.set)
    except BrokerUnreachable:
        return False
    publisher.session.publish("tidegate/v1/line-4/r/data", bytes(40), answers.append)
    while not answers and publisher.is_open:
        changed.clear()
        await changed.wait()
    await publisher.disconnect_gracefully()
    publisher.abort()
    return answers == [0]
