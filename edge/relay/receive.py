"""The MQTT side of the relay: the only file that knows the library.

A record is acknowledged to the broker only after the caller has made it durable: aiomqtt acknowledges on receipt, so
manual acknowledgement is switched on in paho, below it. The session is persistent: the broker holds messages for a
relay that is away and delivers them when it returns, and messages that were not acknowledged are delivered again.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.errors import BrokerRefused, BrokerUnreachable, ConfigError

TOPICS = ("tidegate/v1/+/r/+", "tidegate/v1/+/checkpoint", "tidegate/v1/+/status")

RETRY_LIMIT_NS = 30 * 10**9
_SESSION_NEVER_EXPIRES = 0xFFFF_FFFF
_CONFIRMATION_S = 10.0


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
        try:
            next_ = self._next = self._next or asyncio.ensure_future(anext(messages))
            if not self.is_subscribed and await self._wait_for_confirmation(next_):
                return []
            arrivals = [_arrival(await next_)]
            self._next = None
            while len(messages) and len(arrivals) < self._in_flight:
                arrivals.append(_arrival(await anext(messages)))
        except aiomqtt.MqttError as error:
            raise BrokerUnreachable("the connection to the broker was lost") from error
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
        BrokerUnreachable: the broker does not answer, or the connection is lost later.
        BrokerRefused: the broker refuses the connection, or the subscription to the records.
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
        """Publish retained values and wait until the broker has acknowledged them all; raises BrokerUnreachable."""
        self._is_done.clear()
        self.refusal = ""
        for topic, payload in messages:
            sent = self._paho.publish(topic, payload, qos=1, retain=True)
            self._unacknowledged[sent.mid] = topic
        done = asyncio.ensure_future(self._is_done.wait())
        lost = asyncio.ensure_future(anext(self._client.messages))
        try:
            await asyncio.wait({done, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                await lost
        except aiomqtt.MqttError as error:
            raise BrokerUnreachable("the connection to the broker of the view was lost") from error
        finally:
            done.cancel()
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
    )


@asynccontextmanager
async def _connected(client: aiomqtt.Client, broker: BrokerAddress) -> AsyncIterator[None]:
    where = f"broker {broker.host}:{broker.port}"
    try:
        async with client:
            yield
    except aiomqtt.MqttCodeError as error:
        if not isinstance(error.rc, ReasonCode):
            raise BrokerUnreachable(f"{where} cannot be reached: {_reason(error)}") from error
        raise BrokerRefused(f"{where} refuses the relay: {error.rc}", error.rc.value) from error
    except aiomqtt.MqttError as error:
        raise BrokerUnreachable(f"{where} cannot be reached: {_reason(error)}") from error


def _reason(error: aiomqtt.MqttError) -> str:
    """The operating system's reason where there is one, else the library's."""
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error)
