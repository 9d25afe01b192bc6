"""Messages of subscriptions: the publish dialogue that a session's subscriptions share, and each one's order.

OPC 10000-4, 5.13.5 and 5.13.1.2. One PublishRequest more than there are subscriptions waits at the server: it is never
without one while a response is on its way to us, and none waits for long, which bounds how old a value can be (see
`Subscriber.take`).

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from drivers.opcua.channel import PendingResponse
from drivers.opcua.connection import Connection, status_name
from drivers.opcua.data_change import DataChangeDecoder, DecodedChanges
from drivers.opcua.datavalue import unix_ns
from drivers.opcua.services import (
    PUBLISH,
    NotificationMessage,
    ServiceRequest,
    following,
    is_before,
    publish_parameters,
    read_publish,
)
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import NO_TIME, Notification

_SAID = 1000


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A notification, the boot time when its request was sent, and that of its arrival."""

    notification: NotificationMessage
    asked_at_ns: int
    arrived_at_ns: int


@dataclass(slots=True)
class SubscriptionMemory:
    """What is known of a subscription from session to session; the driver keeps one for each plan.

    Attributes:
        subscription: its number at the server; None where it cannot be had again.
        server_started: the server's word for when it started: after a restart the number means another subscription.
        expected: sequence number of the next message.
        bound_ns: boot time before which nothing in the next message was sampled.
        heard_at_ns: boot time of the last message that was told; None before the first.
        publishing_ns: how long it collects what it tells at once.
        silence_ns: how long the server may say nothing.
        failed: status of the nodes that it does not watch, by number.
        said: sentences that need not be said again.
    """

    subscription: int | None = None
    server_started: object = None
    expected: int = 1
    sampled_after_ns: int = 0
    last_message_ns: int | None = None
    publishing_ns: int = 0
    max_silence_ns: int = 0
    failed: dict[int, int] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def new(self, sentences: Iterable[str]) -> tuple[str, ...]:
        """Those not said before."""
        new = tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in self.said)
        if len(self.said) < _SAID:
            self.said.update(new)
        return new


class MessageSequencer:
    """Tells what was notified, with honest times.

    The values of a message were sampled after the server made the one before it, and that was after it had the request
    that it answered: its `asked_at_ns` is when that request was sent, two or three publishing intervals before.
    For the first message it is when the items were asked for; what a server hands out then may be older: source times
    say so.

    Attributes:
        ended: StatusCode with which the server ended the subscription; None while it goes on.
        without_value: the nodes without any value since the subscription began in this session.
    """

    def __init__(
        self, memory: SubscriptionMemory, decoder: DataChangeDecoder, nodes: int, tell: Callable[[Notification], None]
    ) -> None:
        self._memory, self._teller, self._tell = memory, decoder, tell
        self.ended: int | None = None
        self.without_value = np.ones(nodes, np.bool_)
        self._lost_since_ns: int | None = None
        self._is_silent = True

    def begin(self, lost_since_ns: int | None) -> None:
        """Expect the values of now, of every node."""
        self.ended, self._lost_since_ns, self._is_silent = None, lost_since_ns, True
        self.without_value[:] = True

    def has_gap_before(self, notification: NotificationMessage) -> bool:
        """Whether messages before this one did not arrive."""
        return is_before(self._memory.expected, notification.sequence)

    def is_duplicate(self, notification: NotificationMessage) -> bool:
        """Whether this message was told before, or was given up."""
        return not notification.is_keep_alive and is_before(notification.sequence, self._memory.expected)

    def take(self, received: ReceivedMessage) -> None:
        """Tell a message before which none is missing; one that was told before is passed over.

        Raises:
            ProtocolViolation: the bytes are no such message.
            UnknownStructureError: the type of a structure has to be asked for first.
        """
        notification, memory = received.notification, self._memory
        if notification.is_keep_alive:
            self._alive(received)
        elif self.is_duplicate(notification):
            return
        else:
            told = self._teller.tell(notification)
            self.without_value[told.nodes[told.nodes < len(self.without_value)]] = False
            device_time_ns = int(unix_ns(np.array([notification.device_time], np.int64))[0])
            device_time = None if device_time_ns == NO_TIME else device_time_ns
            self._hand_on(
                told, memory.sampled_after_ns, received.arrived_at_ns, memory.new(told.sentences), device_time
            )
            memory.expected = following(notification.sequence)
            self.ended = notification.ended
        # What a message had no room for was sampled before it was made: the bound stays where it is.
        if not notification.has_more:
            memory.sampled_after_ns = received.asked_at_ns
        memory.last_message_ns = received.arrived_at_ns

    def fail(self, codes: Sequence[tuple[int, int]], sentences: Iterable[str], asked_at_ns: int, now_ns: int) -> None:
        """Tell of (node, status) that are not watched, and what else is not as it should be."""
        self.without_value[[node for node, _ in codes]] = False
        new = self._memory.new(sentences)
        if codes or new:
            self._hand_on(self._teller.bad_values(codes), asked_at_ns, now_ns, new)

    def lose(self, sequence: int, now_ns: int) -> None:
        """Tell that the messages before this one are lost for good."""
        self._lost_since_ns = self._memory.last_message_ns
        self._hand_on(self._teller.bad_values(()), now_ns, now_ns)
        self._memory.expected, self._memory.last_message_ns = sequence, now_ns

    def _alive(self, received: ReceivedMessage) -> None:
        # Many servers begin with a word that they live: the values of now come first all the same.
        if self._is_silent and self.without_value.any():
            self._is_silent = False
        else:
            self._hand_on(self._teller.bad_values(()), received.arrived_at_ns, received.arrived_at_ns)

    def _hand_on(
        self,
        told: DecodedChanges,
        asked_at_ns: int,
        now_ns: int,
        new: tuple[str, ...] = (),
        device_ns: int | None = None,
    ) -> None:
        changes = Notification(
            told.vectors, told.positions, told.codes, asked_at_ns, now_ns, told.source_times, device_ns,
            told.overflowed, self._lost_since_ns, new,
        )  # fmt: skip
        self._lost_since_ns, self._is_silent = None, False
        self._tell(changes)


BAD_TIMEOUT, BAD_REQUEST_TIMEOUT = 0x800A0000, 0x80850000
BAD_TOO_MANY_PUBLISH_REQUESTS, BAD_NO_SUBSCRIPTION = 0x80780000, 0x80790000
_REFUSALS = 10  # One after the other; then the server does not mean to publish.
_UNCLAIMED = 64


class Subscriber(Protocol):
    """One subscription of the session."""

    def take(self, received: ReceivedMessage) -> None:
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


class PublishQueue:
    """Keeps requests waiting at the server, and hands each answer to its subscription."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock
        self._subscribers: dict[int, Subscriber] = {}
        self._unclaimed: deque[ReceivedMessage] = deque(maxlen=_UNCLAIMED)
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
        early = [received for received in self._unclaimed if received.notification.subscription == subscription]
        for received in early:
            self._unclaimed.remove(received)
            subscriber.take(received)
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
            request = ServiceRequest(PUBLISH, self._connection.token, publish_parameters(received))
            asked_at_ns = self._clock.boot_ns()
            handle, answer = self._connection.send(request)
            answer.add_done_callback(partial(self._answered, handle, asked_at_ns, self._joined))
            self._waiting += 1

    def _answered(self, handle: int, asked_at_ns: int, joined: int, answer: PendingResponse) -> None:
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
                self._hand_on(ReceivedMessage(notification, asked_at_ns, answer.arrived_at_ns))
        except ProtocolViolation as broken:
            self._connection.drop(broken)
        if self._connection.is_lost:
            self._lose()
        else:
            self._ask()

    def _hand_on(self, received: ReceivedMessage) -> None:
        subscriber = self._subscribers.get(received.notification.subscription)
        if subscriber is not None:
            self._strays = 0
            subscriber.take(received)
            return
        self._unclaimed.append(received)  # It can be ahead of the answer that makes its subscription known.
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
