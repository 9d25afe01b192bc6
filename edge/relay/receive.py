"""The MQTT side of the relay: the only file that knows the library.

A record is acknowledged to the broker only after the caller has made it durable: aiomqtt acknowledges on receipt, so
manual acknowledgement is switched on in paho, below it. The session is persistent: the broker holds messages for a
relay that is away and delivers them when it returns, and messages that were not acknowledged are delivered again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable, ConfigError

TOPICS = ("tidegate/v1/+/r/+", "tidegate/v1/+/checkpoint", "tidegate/v1/+/status")

RETRY_LIMIT_NS = 30 * 10**9
_SESSION_NEVER_EXPIRES = 0xFFFF_FFFF
_CONFIRMATION_S = 10.0
# What it would say is said in our own sentences.
_SILENT = logging.Logger("aiomqtt", logging.CRITICAL)
_SAME_NAME = "another client may have the same name or certificate: a second relay, or a view that has none of its own"
# What helps where trying again does not.
_HINTS = {
    0x8E: _SAME_NAME,
    0x9C: "change the host in the configuration for now",
    0x9D: "change the host in the configuration",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Address of a broker and our account there.

    `load_tls` reads the certificates, for each connection anew; it is None only where the settings say so.
    """

    host: str
    port: int
    client_id: str
    load_tls: Callable[[], ssl.SSLContext] | None = None
    username: str | None = None
    password: str | None = None
    keep_alive_s: int = 30
    in_flight: int = 512


class Reconnecting:
    """When to connect again: two clients of one name must not take the session from each other each second.

    Many brokers, such as mosquitto 2.0.11, close the older of two such connections without a reason. Only a connection
    that lasted is therefore a success after which the next attempt is an early one again.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._backoff = Backoff(random, limit_ns=RETRY_LIMIT_NS)
        self._connected_ns: int | None = None
        self._short = 0

    def connected(self) -> None:
        """The broker has accepted the connection."""
        self._connected_ns = self._clock.boot_ns()

    def lost(self, error: BrokerRefused | BrokerUnreachable) -> tuple[str, float]:
        """Why there is no connection, and how many seconds to wait."""
        connected_ns, self._connected_ns = self._connected_ns, None
        reason = str(error)
        if connected_ns is not None and self._clock.boot_ns() - connected_ns >= RETRY_LIMIT_NS:
            self._short = 0
            self._backoff.reset()
        elif connected_ns is not None:
            self._short += 1
            if self._short > 1 and isinstance(error, BrokerUnreachable):
                reason += f", {self._short} times in a row soon after it was accepted; {_SAME_NAME}"
        return reason, self._backoff.next_ns(at_limit=error.is_for_long) / 1e9


class Arrival(NamedTuple):
    """One message as received; `mid` is the packet identifier of its PUBACK, 0 where it has QoS 0."""

    topic: str
    data: bytes
    mid: int


class Receiver:
    """A session at the broker.

    Attributes:
        is_subscribed: whether the broker has confirmed the subscription of this connection.
    """

    def __init__(self, client: aiomqtt.Client, confirmation: asyncio.Task[Any], in_flight: int) -> None:
        self._client, self._confirmation, self._in_flight = client, confirmation, in_flight
        self._next: asyncio.Future[aiomqtt.Message] | None = None
        self.is_subscribed = False

    async def receive(self) -> list[Arrival]:
        """Wait for messages, and return those that have arrived, as many as may be in flight.

        None are returned when the broker confirms the subscription meanwhile. Raises as `subscribe`.
        """
        messages = self._client.messages
        next_ = self._next = self._next or asyncio.ensure_future(anext(messages))
        if not self.is_subscribed and await self._wait_for_confirmation(next_):
            return []
        arrivals = [_arrival(await next_)]
        self._next = None
        while len(messages) and len(arrivals) < self._in_flight:
            arrivals.append(_arrival(await anext(messages)))
        return arrivals

    async def _wait_for_confirmation(self, message: asyncio.Future[aiomqtt.Message]) -> bool:
        """Wait for the confirmation or a message; whether the subscription is confirmed."""
        waiting = {message, self._confirmation}
        done, _ = await asyncio.wait(waiting, timeout=_CONFIRMATION_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise BrokerUnreachable(f"the broker did not answer the subscription in {_CONFIRMATION_S:g} s")
        if self._confirmation not in done:
            return False
        for topic, code in zip(TOPICS, self._confirmation.result(), strict=True):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise BrokerRefused(f"the broker refuses the relay the topic {topic}: {code}", code.value)
        self.is_subscribed = True
        return True

    async def close(self) -> None:
        """Wait for nothing any more."""
        waiting = [each for each in (self._next, self._confirmation) if each is not None]
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Send the PUBACK of each."""
        paho = self._client._client  # noqa: SLF001 - aiomqtt has no acknowledgement of its own.
        for arrival in arrivals:
            if arrival.mid:
                paho.ack(arrival.mid, 1)


@asynccontextmanager
async def subscribe(broker: BrokerAddress) -> AsyncIterator[Receiver]:
    """Connect with a persistent session and subscribe to every gateway; messages may arrive before the confirmation.

    Raises:
        BrokerUnreachable: the broker does not answer, or the connection is lost later, also inside the block.
        BrokerRefused: the broker refuses the connection, or the subscription to the records, or ends the connection.
    """
    client = await _client(broker, _SESSION_NEVER_EXPIRES)
    client._client.manual_ack_set(True)  # noqa: SLF001
    async with _connected(client, broker):
        # After a cut mosquitto 2.0 sends all that waits for a session before it answers, whatever Receive Maximum says:
        # a relay that acknowledged nothing until then would be late for ever once much waits.
        topics = [(topic, SubscribeOptions(qos=1)) for topic in TOPICS]
        confirmation = asyncio.create_task(client.subscribe(topics, timeout=math.inf))
        receiver = Receiver(client, confirmation, broker.in_flight)
        try:
            yield receiver
        finally:
            await receiver.close()


def _arrival(message: aiomqtt.Message) -> Arrival:
    return Arrival(message.topic.value, bytes(message.payload), message.mid if message.qos else 0)


class ViewConnection:
    """An open connection on which views are published.

    Attributes:
        refusal: what the broker refused last, and why; empty once it accepts everything.
    """

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._paho = client._client  # noqa: SLF001 - aiomqtt has no way to publish many and wait once.
        self._paho.on_publish = self._on_publish
        self.refusal = ""
        self._unacknowledged: dict[int, str] = {}
        self._is_done = asyncio.Event()

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish retained values and wait until the broker has acknowledged them all."""
        self._is_done.clear()
        self.refusal = ""
        for topic, payload in messages:
            sent = self._paho.publish(topic, payload, qos=1, retain=True)
            self._unacknowledged[sent.mid] = topic
        await self.wait_for(self._is_done)

    async def wait_for(self, event: asyncio.Event) -> None:
        """Wait until an event is set, unless the connection is lost before."""
        is_set = asyncio.ensure_future(event.wait())
        lost = asyncio.ensure_future(anext(self._client.messages))
        try:
            await asyncio.wait({is_set, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not is_set.done():
                await lost
        finally:
            is_set.cancel()
            lost.cancel()

    def _on_publish(self, *arguments: Any) -> None:
        _, _, mid, code, *_ = arguments
        topic = self._unacknowledged.pop(mid, "")
        if isinstance(code, ReasonCode) and code.is_failure:
            self.refusal = f"the broker refuses the topic {topic}: {code}; let the relay's account write it"
        if not self._unacknowledged:
            self._is_done.set()


@asynccontextmanager
async def connect_view(broker: BrokerAddress) -> AsyncIterator[ViewConnection]:
    """Connect for publishing; raises as `subscribe`."""
    client = await _client(broker, 0)
    async with _connected(client, broker):
        yield ViewConnection(client)


async def _client(broker: BrokerAddress, session_expiry_s: int) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    properties.ReceiveMaximum = broker.in_flight
    try:
        tls = await asyncio.to_thread(broker.load_tls) if broker.load_tls else None
    except ConfigError as error:
        raise BrokerUnreachable(str(error)) from error
    return aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=broker.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=session_expiry_s == 0,
        properties=properties,
        tls_context=tls,
        username=broker.username,
        password=broker.password,
        keepalive=broker.keep_alive_s,
        max_inflight_messages=broker.in_flight,
        logger=_SILENT,
    )


@asynccontextmanager
async def _connected(client: aiomqtt.Client, broker: BrokerAddress) -> AsyncIterator[None]:
    answers = _Answers(client, f"broker {broker.host}:{broker.port}")
    try:
        async with client:
            answers.check()
            yield
    except aiomqtt.MqttError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # What aiomqtt says while it disconnects must not replace the request to stop.
            raise asyncio.CancelledError from error
        raise answers.explain(error) from error


class _Answers:
    """The broker's CONNACK and DISCONNECT: aiomqtt gives their reason at best, and never what else they say."""

    def __init__(self, client: aiomqtt.Client, broker: str) -> None:
        paho = client._client  # noqa: SLF001
        self._client, self._broker = client, broker
        self._is_lost = self._is_connected = False
        self._answer: tuple[ReasonCode, Properties | None] | None = None
        self._on_connect: Any = paho.on_connect
        self._on_disconnect: Any = paho.on_disconnect
        paho.on_connect, paho.on_disconnect = self._note_connack, self._note_disconnect

    def check(self) -> None:
        """Raise MqttError if the connection is lost already: aiomqtt forgets a loss that follows at once."""
        if self._is_lost:
            raise aiomqtt.MqttError("lost")

    def explain(self, error: aiomqtt.MqttError) -> BrokerRefused | BrokerUnreachable:
        """Why there is no connection, or none any more."""
        if self._answer is None and not self._is_connected:
            return BrokerUnreachable(f"{self._broker} cannot be reached: {_reason(error)}")
        if self._answer is None:
            return BrokerUnreachable(f"{self._broker}: the connection was lost")
        code, properties = self._answer
        said = f"{self._broker} {'ended the connection' if self._is_connected else 'refuses the relay'}: {code}"
        said += f" (0x{code.value:02X})"
        if reference := getattr(properties, "ServerReference", ""):
            said += f', which is "{reference}"'
        if code.value in _HINTS:
            return BrokerRefused(f"{said}; {_HINTS[code.value]}", code.value)
        return BrokerUnreachable(said) if self._is_connected else BrokerRefused(said, code.value)

    def _note_connack(self, *arguments: Any) -> None:
        _, _, _, code, properties = arguments
        if isinstance(code, ReasonCode) and code.is_failure:
            self._answer = code, properties
        else:
            self._is_connected = True
        self._on_connect(*arguments)

    def _note_disconnect(self, *arguments: Any) -> None:
        _, _, flags, code, properties = arguments
        if flags.is_disconnect_packet_from_server:
            self._answer = code, properties
        self._is_lost = True
        self._on_disconnect(*arguments)
        if self._client._disconnected.done():  # noqa: SLF001
            self._client._disconnected.exception()  # noqa: SLF001 - or asyncio logs that nobody asked for it.


def _reason(error: aiomqtt.MqttError) -> str:
    """The operating system's reason where there is one, else the library's."""
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error)
