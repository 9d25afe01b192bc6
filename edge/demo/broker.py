"""An MQTT 5 broker in this process, for the demo and for tests.

QoS 0 and 1, retained messages, wildcards, shared subscriptions, persistent sessions in memory, wills, keep-alive and
flow control. It can be told to misbehave: `Script` says how. It is not a broker for a plant.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edge.demo.broker_connection import Connection
from edge.demo.broker_packets import Connect, Message, Subscription
from edge.demo.broker_session import Session, is_filter, is_match
from edge.uplink.mqtt.reason_codes import Reason

Answer = Callable[[Message, int], int | None]
"""The reason code for the n-th publish of all (from 1); None keeps silent."""


@dataclass(slots=True, kw_only=True)
class Script:
    """How the broker behaves; may be changed at any time.

    Attributes:
        consent: reason code of CONNACK.
        properties: what CONNACK says of the broker, over its defaults; None takes a default away.
        answer: reason code for a publish; None in place of a function decides by subscriptions and quota.
        cut_after_received: close a connection once it has received so many bytes.
        cut_after_sent: close a connection once it was sent so many bytes; the rest is not sent.
        is_mute: read and answer nothing.
        is_old: answer as a broker that knows only MQTT 3.1.1.
    """

    consent: int = 0
    properties: dict[int, int | None] = field(default_factory=dict)
    answer: Answer | None = None
    cut_after_received: int | None = None
    cut_after_sent: int | None = None
    is_mute: bool = False
    is_old: bool = False


class Broker:
    """A broker on loopback.

    Attributes:
        script: how it behaves.
        received: inbound packets by type name.
        received_from: the same by client identifier.
        on_publish: told every message that was accepted, with its publisher.
        retained: the retained messages by topic.
        sent_bytes: what the connection that was written to last has been sent.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        on_publish: Callable[[str, Message], None] | None = None,
    ) -> None:
        self.script = Script()
        self.received: Counter[str] = Counter()
        self.received_from: dict[str, Counter[str]] = {}
        self.on_publish = on_publish
        self.retained: dict[str, Message] = {}
        self.sent_bytes = 0
        self.host, self.port = host, port
        self.changed = asyncio.Event()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._sessions: dict[str, Session] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._publishes = self._ordinal = self._saved = self._turn = 0

    async def __aenter__(self) -> Broker:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        for timer in self._expiries.values():
            timer.cancel()

    async def start(self) -> None:
        """Listen; again on the same port after `stop` or `kill`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self.host, self.port, ssl=self._tls, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Say good-bye to all clients and close; sessions and retained messages stay for the next start."""
        await self._close(Reason.SERVER_SHUTTING_DOWN)

    async def kill(self, *, forget: bool = True) -> None:
        """Close without a word; with `forget`, what was accepted since `save` is lost."""
        await self._close(None)
        if forget:
            self._ordinal = max(self._ordinal, self._saved)
            for session in self._sessions.values():
                session.forget(self._saved)
            self.retained = {topic: held for topic, held in self.retained.items() if held.ordinal <= self._saved}

    def save(self) -> None:
        """Keep everything accepted so far through a `kill`."""
        self._saved = self._ordinal

    def inject(self, data: bytes) -> None:
        """Send bytes to every client, whatever they are."""
        for connection in self._connections:
            connection.write(data)

    def disconnect_clients(self, reason_code: int | None = None) -> None:
        """End every connection, with a DISCONNECT or without."""
        for connection in list(self._connections):
            connection.close(reason_code)

    @property
    def clients(self) -> set[str]:
        """Identifiers of the connected clients."""
        return {connection.client_id for connection in self._connections if connection.client_id}

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until a condition holds; looked at whenever a packet arrives or a connection comes or goes."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    # What connections tell.

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)
        self.changed.set()

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self.changed.set()

    def count(self, client_id: str, kind: str) -> None:
        """A packet arrived."""
        self.received[kind] += 1
        self.received_from.setdefault(client_id, Counter())[kind] += 1
        self.changed.set()

    def enter(self, connection: Connection, connect: Connect, expiry_s: int) -> bool:
        """A client was accepted: give it its session; True when it had one."""
        for other in list(self._connections):
            if other is not connection and other.client_id == connect.client_id:
                other.close(Reason.SESSION_TAKEN_OVER)
        if (timer := self._expiries.pop(connect.client_id, None)) is not None:
            timer.cancel()
        known = None if connect.is_clean else self._sessions.get(connect.client_id)
        connection.session = known or Session(connect.client_id)
        connection.session.expiry_s = expiry_s
        self._sessions[connect.client_id] = connection.session
        return known is not None

    def leave(self, session: Session, will: Message | None, will_delay_s: int) -> None:
        """A client is gone."""
        session.outlet = None
        loop = asyncio.get_running_loop()
        if will is not None:
            delay_s = min(will_delay_s, session.expiry_s)
            if delay_s:
                loop.call_later(delay_s, self._say_will, session, will)
            else:
                self.distribute(session.client_id, will)
        if session.expiry_s == 0:
            self._expire(session)
        elif session.expiry_s < 0xFFFFFFFF:
            self._expiries[session.client_id] = loop.call_later(session.expiry_s, self._expire, session)

    def publish(self, client_id: str, message: Message) -> int | None:
        """Take a message; the reason code for its publisher, None to keep silent."""
        self._publishes += 1
        code = self.script.answer(message, self._publishes) if self.script.answer is not None else 0
        if code is None or code >= 0x80:
            return code
        receivers = self._receivers(client_id, message.topic)
        if any(session.is_full for session, _ in receivers):
            return Reason.QUOTA_EXCEEDED
        self._distribute(client_id, message, receivers)
        if self.script.answer is None and not receivers:
            return Reason.NO_MATCHING_SUBSCRIBERS
        return code

    def distribute(self, client_id: str, message: Message) -> None:
        """Hand a message to whoever subscribes to it."""
        self._distribute(client_id, message, self._receivers(client_id, message.topic))

    def _distribute(self, client_id: str, message: Message, receivers: list[tuple[Session, Subscription]]) -> None:
        self._ordinal += 1
        message = replace(message, ordinal=self._ordinal)
        if message.is_retained:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        if self.on_publish is not None:
            self.on_publish(client_id, message)
        for session, subscription in receivers:
            is_retained = message.is_retained and subscription.is_retain_as_published
            session.enqueue(message, min(message.qos, subscription.qos), is_retained=is_retained)

    def subscribe(self, session: Session, wanted: Subscription) -> int:
        """Add a subscription, and send what is retained for it; the granted QoS or a reason code."""
        _, topic_filter = _split_shared(wanted.filter)
        if not is_filter(topic_filter):
            return Reason.TOPIC_FILTER_INVALID
        is_new = wanted.filter not in session.subscriptions
        session.subscriptions[wanted.filter] = wanted
        is_shared = wanted.filter != topic_filter
        if not is_shared and (wanted.retain_handling == 0 or (wanted.retain_handling == 1 and is_new)):
            for topic, message in self.retained.items():
                if is_match(topic_filter, topic):
                    session.enqueue(message, min(message.qos, wanted.qos), is_retained=True)
        self.changed.set()
        return wanted.qos

    def _receivers(self, client_id: str, topic: str) -> list[tuple[Session, Subscription]]:
        """Each session once, with its strongest subscription; of a shared one, a single member in turn."""
        found: list[tuple[Session, Subscription]] = []
        shared: dict[str, list[tuple[Session, Subscription]]] = {}
        for session in self._sessions.values():
            best: Subscription | None = None
            for name, subscription in session.subscriptions.items():
                group, topic_filter = _split_shared(name)
                if not is_match(topic_filter, topic) or (subscription.is_no_local and session.client_id == client_id):
                    continue
                if group:
                    shared.setdefault(name, []).append((session, subscription))
                elif best is None or subscription.qos > best.qos:
                    best = subscription
            if best is not None:
                found.append((session, best))
        for members in shared.values():
            present = [member for member in members if member[0].outlet is not None] or members
            self._turn += 1
            found.append(present[self._turn % len(present)])
        return found

    def _say_will(self, session: Session, will: Message) -> None:
        if session.outlet is None:
            self.distribute(session.client_id, will)

    def _expire(self, session: Session) -> None:
        if self._sessions.get(session.client_id) is session and session.outlet is None:
            del self._sessions[session.client_id]
        self._expiries.pop(session.client_id, None)

    async def _close(self, reason_code: int | None) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in self._connections:
            connection.will = None  # The clients are not gone: the broker is.
        self.disconnect_clients(reason_code)
        await self.wait_until(lambda: not self._connections)
        await server.wait_closed()


def _split_shared(name: str) -> tuple[str, str]:
    """(share name, topic filter) of a subscription; no share name for an ordinary one (section 4.8.2)."""
    if not name.startswith("$share/"):
        return "", name
    _, group, *rest = name.split("/", 2)
    return group, rest[0] if rest else ""
