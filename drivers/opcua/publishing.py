"""The publish dialogue of one session, which all its subscriptions share (OPC 10000-4, 5.13.5).

One request more than there are subscriptions waits at the server: it is never without one while an answer is on its
way to us, and none waits for long, which is what bounds how old a value can be (see `Subscriber.take`).

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Protocol

from drivers.opcua.channel import Arrival, Channel
from drivers.opcua.connection import Connection, status_name
from drivers.opcua.notifications import publish_parameters, read_publish
from drivers.opcua.services import PUBLISH, ServiceRequest
from drivers.opcua.stream import Delivery
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ProtocolViolation

BAD_TIMEOUT, BAD_REQUEST_TIMEOUT = 0x800A0000, 0x80850000
BAD_TOO_MANY_PUBLISH_REQUESTS, BAD_NO_SUBSCRIPTION = 0x80780000, 0x80790000
_REFUSALS = 10  # One after the other; then the server does not mean to publish.
_UNCLAIMED = 64


class Subscriber(Protocol):
    """One subscription of the session."""

    def take(self, delivery: Delivery) -> None:
        """Take a notification.

        The server made it after its request reached it: nothing in the *next* one was sampled before `asked_at_ns`.
        """
        ...

    def gone(self) -> None:
        """Learn that the server has no subscription any more."""
        ...

    def lost(self) -> None:
        """Learn that the connection is lost."""
        ...


class Publisher:
    """Keeps requests waiting at the server, and hands each answer to its subscription."""

    def __init__(self, connection: Connection, channel: Channel, clock: Clock) -> None:
        self._connection, self._channel, self._clock = connection, channel, clock
        self._subscribers: dict[int, Subscriber] = {}
        self._unclaimed: deque[Delivery] = deque(maxlen=_UNCLAIMED)
        self._received: list[tuple[int, int]] = []
        self._waiting = 0
        self._most: int | None = None
        self._refusals = 0
        self._joined = self._strays = 0

    def __contains__(self, subscription: int) -> bool:
        return subscription in self._subscribers

    def join(self, subscription: int, subscriber: Subscriber) -> None:
        """Have what is told of a subscription handed on from now on, and what came before anybody knew of it."""
        self._subscribers[subscription] = subscriber
        self._joined += 1
        self._refusals = 0
        early = [delivery for delivery in self._unclaimed if delivery.notification.subscription == subscription]
        for delivery in early:
            self._unclaimed.remove(delivery)
            subscriber.take(delivery)
        self._ask()

    def leave(self, subscription: int) -> None:
        """Hand on nothing more."""
        self._subscribers.pop(subscription, None)

    def received(self, subscription: int, sequence: int) -> None:
        """Acknowledge a message with the next request: the server need not keep it for us any more."""
        self._received.append((subscription, sequence))

    def _ask(self) -> None:
        """Bring up the number of requests at the server."""
        wanted = len(self._subscribers) + 1 if self._subscribers else 0
        if self._most is not None:
            wanted = min(wanted, self._most)
        while self._waiting < wanted and not self._connection.is_lost:
            received, self._received = self._received, []
            request = ServiceRequest(PUBLISH, self._channel.token, publish_parameters(received))
            asked_at_ns = self._clock.boot_ns()
            handle, answer = self._channel.start(request)
            answer.add_done_callback(partial(self._answered, handle, asked_at_ns, self._joined))
            self._waiting += 1

    def _answered(self, handle: int, asked_at_ns: int, joined: int, answer: Arrival) -> None:
        self._waiting -= 1
        if answer.cancelled() or answer.exception() is not None:
            self._lose()
            return
        body = answer.result()
        try:
            head, notification = read_publish(body.read(len(body)), handle)
            if notification is None:
                self._refused(head.result, joined)
            else:
                self._refusals = 0
                self._hand_on(Delivery(notification, asked_at_ns, answer.arrived_at_ns))
        except ProtocolViolation as broken:
            self._connection.drop(broken)
        if self._connection.is_lost:
            self._lose()
        else:
            self._ask()

    def _hand_on(self, delivery: Delivery) -> None:
        subscriber = self._subscribers.get(delivery.notification.subscription)
        if subscriber is not None:
            self._strays = 0
            subscriber.take(delivery)
            return
        self._unclaimed.append(delivery)  # It can be ahead of the answer that makes its subscription known.
        self._strays += 1
        if self._strays > _UNCLAIMED:
            why = f"{self._connection.name} tells of subscriptions that are not ours"
            self._connection.drop(DeviceUnreachable(why))

    def _refused(self, code: int, joined: int) -> None:
        self._refusals += 1
        if code == BAD_TOO_MANY_PUBLISH_REQUESTS and self._refusals <= _REFUSALS:
            self._most = max(1, self._waiting)
        elif code == BAD_NO_SUBSCRIPTION and self._refusals <= _REFUSALS:
            # A request from before a new subscription was made says nothing about that.
            if joined == self._joined:
                gone, self._subscribers = self._subscribers, {}
                for subscriber in gone.values():
                    subscriber.gone()
        elif code not in (BAD_TIMEOUT, BAD_REQUEST_TIMEOUT) or self._refusals > _REFUSALS:
            why = f"{self._connection.name} publishes nothing: {status_name(code)}"
            self._connection.drop(DeviceUnreachable(why))

    def _lose(self) -> None:
        for subscriber in list(self._subscribers.values()):
            subscriber.lost()
