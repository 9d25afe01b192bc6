"""The embedded broker is one that real clients can use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.faulty_broker import FaultyBroker


@pytest.fixture
async def broker() -> AsyncIterator[FaultyBroker]:
    async with FaultyBroker() as running:
        yield running


async def run(broker: FaultyBroker, program: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        program, "-V", "5", "-p", str(broker.port), *arguments, stdout=asyncio.subprocess.PIPE
    )


def subscribed(broker: FaultyBroker, count: int = 1) -> bool:
    return broker.received["SUBSCRIBE"] >= count


def client(broker: FaultyBroker, name: str, *, expiry_s: int = 0) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = expiry_s
    return aiomqtt.Client(
        "127.0.0.1", broker.port, identifier=name, protocol=aiomqtt.ProtocolVersion.V5, clean_start=not expiry_s,
        properties=properties,
    )  # fmt: skip


async def next_payload(subscriber: aiomqtt.Client) -> bytes:
    return (await anext(aiter(subscriber.messages))).payload


@pytest.mark.parametrize("qos", ["0", "1"])
async def test_mosquitto_pub_reaches_mosquitto_sub(broker: FaultyBroker, qos: str) -> None:
    reader = await run(broker, "mosquitto_sub", "-t", "plant/+/temperature", "-q", qos, "-C", "1", "-v")
    await broker.wait_until(lambda: subscribed(broker))

    writer = await run(broker, "mosquitto_pub", "-t", "plant/line-4/temperature", "-m", "21.5", "-q", qos)
    said, _ = await reader.communicate()

    assert said == b"plant/line-4/temperature 21.5\n"
    assert (await writer.communicate(), writer.returncode) == ((b"", None), 0)


async def test_a_retained_message_is_given_to_who_comes_later(broker: FaultyBroker) -> None:
    writer = await run(broker, "mosquitto_pub", "-t", "status", "-m", "online", "-q", "1", "-r")
    await writer.communicate()

    reader = await run(broker, "mosquitto_sub", "-t", "#", "-q", "1", "-C", "1", "-F", "%r %p")
    said, _ = await reader.communicate()

    assert said == b"1 online\n"


async def test_a_session_keeps_what_came_while_its_client_was_away(broker: FaultyBroker) -> None:
    async with client(broker, "relay", expiry_s=3600) as relay:
        await relay.subscribe("t/#", qos=1)
    async with client(broker, "writer") as writer:
        for number in range(50):
            await writer.publish("t/x", str(number), qos=1)

    async with client(broker, "relay", expiry_s=3600) as relay:
        arrived = [await next_payload(relay) for _ in range(50)]

    assert arrived == [str(number).encode() for number in range(50)]


async def test_a_session_survives_the_broker_and_what_was_not_saved_does_not(broker: FaultyBroker) -> None:
    async with client(broker, "relay", expiry_s=3600) as relay:
        await relay.subscribe("t", qos=1)
    async with client(broker, "writer") as writer:
        await writer.publish("t", "saved", qos=1)
        broker.save()
        await writer.publish("t", "forgotten", qos=1)
    await broker.kill()
    await broker.start()

    async with client(broker, "relay", expiry_s=3600) as relay, client(broker, "writer") as writer:
        await writer.publish("t", "after", qos=1)
        arrived = [await next_payload(relay) for _ in range(2)]

    assert arrived == [b"saved", b"after"]


async def test_a_shared_subscription_gives_each_message_to_one_member(broker: FaultyBroker) -> None:
    async with client(broker, "a") as first, client(broker, "b") as second, client(broker, "writer") as writer:
        for member in (first, second):
            await member.subscribe("$share/relays/t", qos=1)
        for number in range(10):
            await writer.publish("t", bytes([number]), qos=1)
        arrived = [await next_payload(member) for _ in range(5) for member in (first, second)]

    assert sorted(arrived) == [bytes([number]) for number in range(10)]


async def test_a_subscriber_is_never_sent_more_than_it_takes_at_once(broker: FaultyBroker) -> None:
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = 2
    slow = aiomqtt.Client(
        "127.0.0.1", broker.port, identifier="slow", protocol=aiomqtt.ProtocolVersion.V5, properties=properties
    )
    async with slow, client(broker, "writer") as writer:
        await slow.subscribe("t", qos=1)
        for number in range(20):
            await writer.publish("t", bytes([number]), qos=1)
        arrived = [await next_payload(slow) for _ in range(20)]

    assert arrived == [bytes([number]) for number in range(20)]


async def test_a_will_is_said_for_a_client_that_vanishes(broker: FaultyBroker) -> None:
    will = aiomqtt.Will("status", b"offline", qos=1)
    lost = aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5, identifier="lost", will=will)
    async with client(broker, "watcher") as watcher:
        await watcher.subscribe("status", qos=1)
        with contextlib.suppress(aiomqtt.MqttError):
            async with lost:
                next(one for one in broker._connections if one.client_id == "lost").close()
        assert await next_payload(watcher) == b"offline"


async def test_a_client_of_the_older_protocol_is_turned_away(broker: FaultyBroker) -> None:
    writer = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-V", "311", "-p", str(broker.port), "-t", "t", "-m", "x", "-q", "1",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await writer.communicate()

    assert b"unacceptable protocol version" in said
