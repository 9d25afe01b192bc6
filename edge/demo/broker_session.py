"""A client of the embedded broker, connected or not: its subscriptions and its messages; topic filters."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from edge.demo.broker_packets import Message, TopicSubscription, encode_publish
from edge.mqtt.codec import encode_text

QUEUE_LIMIT = 100_000
"""Most messages queued for one client; more are refused to the publisher, not dropped."""

_HEAD_BYTES = 64  # More than all of a PUBLISH but its topic, properties and payload.


class Outlet(Protocol):
    """A connection as its session sees it."""

    receive_maximum: int
    packet_limit_bytes: int

    @property
    def is_writable(self) -> bool:
        """Whether it accepts more."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...


@dataclass(slots=True)
class BrokerSession:
    """Subscriptions, queued messages, and those that the client has not acknowledged."""

    client_id: str
    expiry_s: int = 0
    subscriptions: dict[str, TopicSubscription] = field(default_factory=dict)
    outlet: Outlet | None = None
    waiting: deque[tuple[Message, int, bool]] = field(default_factory=deque)  # message, qos, retain flag
    unacknowledged: dict[int, tuple[Message, bool]] = field(default_factory=dict)
    is_held: bool = False
    _packet_id: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the queue is full."""
        return len(self.waiting) >= QUEUE_LIMIT

    def enqueue(self, message: Message, qos: int, *, is_retained: bool) -> None:
        """Queue a message for this client; with QoS 0 only while it is connected and writable."""
        if qos or (self.outlet is not None and self.outlet.is_writable):
            self.waiting.append((message, qos, is_retained))
        self.pump()

    def connected(self, outlet: Outlet) -> None:
        """The client is connected: messages that it did not acknowledge are sent again, first and in order."""
        self.outlet = outlet
        for message, is_retained in reversed(self.unacknowledged.values()):
            self.waiting.appendleft((message, 1, is_retained))
        self.unacknowledged.clear()
        self.pump()

    def acknowledged(self, packet_id: int) -> None:
        """The client acknowledged a message."""
        self.unacknowledged.pop(packet_id, None)
        self.pump()

    def pump(self) -> None:
        """Send queued messages, as far as the client allows."""
        outlet = self.outlet
        while outlet is not None and not self.is_held and self.waiting and outlet.is_writable:
            message, qos, is_retained = self.waiting[0]
            if qos and len(self.unacknowledged) >= outlet.receive_maximum:
                return
            self.waiting.popleft()
            if len(message.payload) + len(encode_text(message.topic)) + _HEAD_BYTES > outlet.packet_limit_bytes:
                continue  # Over the client's Maximum Packet Size (section 3.1.2.11.4).
            packet_id = self._next_packet_id() if qos else 0
            if qos:
                self.unacknowledged[packet_id] = message, is_retained
            outlet.write(encode_publish(message, packet_id, qos, is_duplicate=False, is_retained=is_retained))

    def _next_packet_id(self) -> int:
        packet_id = self._packet_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self.unacknowledged:
                self._packet_id = packet_id
                return packet_id


def is_match(topic_filter: str, topic: str) -> bool:
    """Whether a topic matches a filter (section 4.7)."""
    if topic.startswith("$") and topic_filter[:1] in {"+", "#"}:
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in {"+", levels[at]}:
            return False
    return len(wanted) == len(levels)


def is_filter(topic_filter: str) -> bool:
    """Whether a topic filter is well-formed."""
    levels = topic_filter.split("/")
    return bool(topic_filter) and all(
        ("#" not in level and "+" not in level) or level == "+" or (level == "#" and at == len(levels) - 1)
        for at, level in enumerate(levels)
    )
