"""The messages of a session's subscriptions: the PublishRequests that all of them share, and the order within each.

One PublishRequest more than there are subscriptions waits at the server (OPC 10000-4, 5.13.5): it is never without one
while a response is on its way to us, and none waits for long, which bounds how old a value can be (see
`Subscriber.on_message`).

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

_REPORTED_LIMIT = 1000
_FAULTS_LIMIT = 10  # In succession; then the server does not mean to publish.
_UNCLAIMED_LIMIT = 64
_BAD_TIMEOUT, _BAD_REQUEST_TIMEOUT = 0x800A0000, 0x80850000
_BAD_TOO_MANY_PUBLISH_REQUESTS, _BAD_NO_SUBSCRIPTION = 0x80780000, 0x80790000


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A NotificationMessage, the boot time when its PublishRequest was sent, and that of its arrival."""

    notification: NotificationMessage
    asked_at_ns: int
    arrived_at_ns: int


@dataclass(slots=True)
class SubscriptionMemory:
    """What is known of a subscription from session to session; the driver keeps one for each plan.

    Attributes:
        nodes: numbers of its nodes in the plan; they move to one more subscription where the server takes no more.
        is_extra: whether it is one more of its scan group.
        subscription: its SubscriptionId; None before the first.
        can_continue: whether a next session is to continue it; where that fails it is not tried again.
        server_started: StartTime of the server: after a restart the id means another subscription.
        expected: sequence number of the next message.
        sampled_after_ns: boot time before which no value of the next message was sampled.
        last_message_ns: boot time of the last message; None before the first.
        publishing_ns: the publishing interval.
        max_silence_ns: how long no message may come.
        failed: status of the nodes without a monitored item, by number.
        reported: sentences that were reported before.
    """

    nodes: Sequence[int] = ()
    is_extra: bool = False
    subscription: int | None = None
    can_continue: bool = False
    server_started: object = None
    expected: int = 1
    sampled_after_ns: int = 0
    last_message_ns: int | None = None
    publishing_ns: int = 0
    max_silence_ns: int = 0
    failed: dict[int, int] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)

    def take_new(self, sentences: Iterable[str]) -> tuple[str, ...]:
        """Those that were not reported before; from now on they were."""
        new = tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in self.reported)
        if len(self.reported) < _REPORTED_LIMIT:
            self.reported.update(new)
        return new


class MessageSequencer:
    """Turns the messages of one subscription, in order, into notifications with bounds of when values were sampled.

    The values of a message were sampled after the server made the message before it, and that was after it had the
    request that it answered: `asked_at_ns` is when that request was sent, two or three publishing intervals before.
    For the first message it is when the items were created; the initial values of a server may be older, which their
    source times say.

    Attributes:
        ended: StatusCode with which the server ended the subscription; None while it goes on.
        without_value: the nodes without a value since the subscription began in this session.
    """

    def __init__(
        self, memory: SubscriptionMemory, decoder: DataChangeDecoder, nodes: int, notify: Callable[[Notification], None]
    ) -> None:
        self._memory, self._decoder, self._notify = memory, decoder, notify
        self.ended: int | None = None
        self.without_value = np.zeros(nodes, np.bool_)
        self._lost_since_ns: int | None = None
        self._is_first, self._is_continued = True, False
        self._why: tuple[str, ...] = ()

    def restart(self, lost_since_ns: int | None, why: str = "") -> None:
        """Expect the initial values of every node; the first of them is reported with the sentence why."""
        self.ended, self._lost_since_ns, self._is_first = None, lost_since_ns, True
        self.without_value[list(self._memory.nodes)] = True
        self._is_continued = False
        self._why = self._memory.take_new([why] if why else [])

    def resume(self) -> None:
        """Expect the next message: the server goes on with the subscription as if nothing had happened."""
        self.restart(None)
        self.without_value[:] = False
        self._is_continued = True

    def report_continued(self, now_ns: int) -> None:
        """Notify that the subscription goes on, where no message has said so yet."""
        if self._is_continued:
            self._report(self._decoder.bad_values(()), self._memory.sampled_after_ns, now_ns)

    def has_gap_before(self, notification: NotificationMessage) -> bool:
        """Whether messages before this one did not arrive."""
        return is_before(self._memory.expected, notification.sequence)

    def is_duplicate(self, notification: NotificationMessage) -> bool:
        """Whether this message was accepted before, or was given up."""
        return not notification.is_keep_alive and is_before(notification.sequence, self._memory.expected)

    def accept(self, received: ReceivedMessage) -> None:
        """Notify of a message that has no gap before it; a duplicate is passed over.

        Raises:
            ProtocolViolation: the bytes are no such message.
            UnknownStructureError: the definition of a structure has to be requested first.
        """
        notification, memory = received.notification, self._memory
        if notification.is_keep_alive:
            self._keep_alive(received)
        elif self.is_duplicate(notification):
            return
        else:
            changes = self._decoder.decode(notification)
            self.without_value[changes.nodes[changes.nodes < len(self.without_value)]] = False
            device_time_ns = int(unix_ns(np.array([notification.device_time], np.int64))[0])
            device_ns = None if device_time_ns == NO_TIME else device_time_ns
            new = memory.take_new(changes.sentences)
            self._report(changes, memory.sampled_after_ns, received.arrived_at_ns, new, device_ns)
            memory.expected = following(notification.sequence)
            self.ended = notification.ended
        # Values that a message had no room for were sampled before it was made: the bound stays where it is.
        if not notification.has_more:
            memory.sampled_after_ns = received.asked_at_ns
        memory.last_message_ns = received.arrived_at_ns

    def report_bad(
        self, codes: Sequence[tuple[int, int]], sentences: Iterable[str], asked_at_ns: int, now_ns: int
    ) -> None:
        """Notify of (node, status) without a monitored item, and of sentences about the server."""
        self.without_value[[node for node, _ in codes]] = False
        new = self._memory.take_new(sentences)
        if codes or new:
            self._report(self._decoder.bad_values(codes), asked_at_ns, now_ns, new)

    def skip_to(self, sequence: int, now_ns: int) -> None:
        """Notify that the messages before this one are lost."""
        self._lost_since_ns = self._memory.last_message_ns
        self._report(self._decoder.bad_values(()), now_ns, now_ns)
        self._memory.expected, self._memory.last_message_ns = sequence, now_ns

    def _keep_alive(self, received: ReceivedMessage) -> None:
        # Many servers send a keep-alive before the initial values: it is not reported, so that the values come first.
        if self._is_first and self.without_value.any():
            self._is_first = False
        else:
            self._report(self._decoder.bad_values(()), received.arrived_at_ns, received.arrived_at_ns)

    def _report(
        self, changes: DecodedChanges, asked_at_ns: int, now_ns: int, new: tuple[str, ...] = (),
        device_ns: int | None = None,
    ) -> None:  # fmt: skip
        notification = Notification(
            changes.vectors, changes.positions, changes.codes, asked_at_ns, now_ns, changes.source_times, device_ns,
            changes.overflowed, self._lost_since_ns, (*self._why, *new), self._is_continued,
        )  # fmt: skip
        self._lost_since_ns, self._why, self._is_first, self._is_continued = None, (), False, False
        self._notify(notification)


class Subscriber(Protocol):
    """One subscription of the session."""

    def on_message(self, received: ReceivedMessage) -> None:
        """Take a message.

        The server made it after its request arrived: no value of the *next* one was sampled before `asked_at_ns`.
        """
        ...

    def on_deleted(self) -> None:
        """The server has no subscription any more."""
        ...

    def on_connection_lost(self) -> None:
        """The connection is lost."""
        ...


class PublishQueue:
    """Keeps PublishRequests waiting at the server, and gives each response to its subscription."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock
        self._subscribers: dict[int, Subscriber] = {}
        self._unclaimed: deque[ReceivedMessage] = deque(maxlen=_UNCLAIMED_LIMIT)
        self._acknowledgements: list[tuple[int, int]] = []
        self._waiting = 0
        self._waiting_limit: int | None = None
        self._faults = 0
        self._added = self._unclaimed_in_succession = 0

    def __contains__(self, subscription: int) -> bool:
        return subscription in self._subscribers

    def add(self, subscription: int, subscriber: Subscriber) -> None:
        """Give a subscription its messages from now on, and those that came before its id was known here."""
        self._subscribers[subscription] = subscriber
        self._added += 1
        self._faults = 0
        early = [received for received in self._unclaimed if received.notification.subscription == subscription]
        for received in early:
            self._unclaimed.remove(received)
            subscriber.on_message(received)
        self._send_requests()

    def remove(self, subscription: int) -> None:
        """Give it no more messages."""
        self._subscribers.pop(subscription, None)

    def acknowledge(self, subscription: int, sequence: int) -> None:
        """Acknowledge a message with the next request: the server need not keep it for a Republish."""
        self._acknowledgements.append((subscription, sequence))

    def _send_requests(self) -> None:
        """Bring up the number of requests that wait at the server."""
        wanted = len(self._subscribers) + 1 if self._subscribers else 0
        if self._waiting_limit is not None:
            wanted = min(wanted, self._waiting_limit)
        while self._waiting < wanted and not self._connection.is_lost:
            acknowledged, self._acknowledgements = self._acknowledgements, []
            request = ServiceRequest(PUBLISH, self._connection.token, publish_parameters(acknowledged))
            asked_at_ns = self._clock.boot_ns()
            handle, response = self._connection.send(request)
            response.add_done_callback(partial(self._on_response, handle, asked_at_ns, self._added))
            self._waiting += 1

    def _on_response(self, handle: int, asked_at_ns: int, added: int, response: PendingResponse) -> None:
        self._waiting -= 1
        if response.cancelled() or response.exception() is not None:
            self._on_connection_lost()
            return
        body = response.result()
        try:
            head, notification = read_publish(body.read(len(body)), handle)
            if notification is None:
                self._on_fault(head.result, added)
            else:
                self._faults = 0
                self._dispatch(ReceivedMessage(notification, asked_at_ns, response.arrived_at_ns))
        except ProtocolViolation as broken:
            self._connection.drop(broken)
        if self._connection.is_lost:
            self._on_connection_lost()
        else:
            self._send_requests()

    def _dispatch(self, received: ReceivedMessage) -> None:
        subscriber = self._subscribers.get(received.notification.subscription)
        if subscriber is not None:
            self._unclaimed_in_succession = 0
            subscriber.on_message(received)
            return
        self._unclaimed.append(received)  # It can overtake the CreateSubscription response that names its id.
        self._unclaimed_in_succession += 1
        if self._unclaimed_in_succession > _UNCLAIMED_LIMIT:
            why = f"{self._connection.name} tells of subscriptions that are not ours"
            self._connection.end_session(DeviceUnreachable(why))

    def _on_fault(self, code: int, added: int) -> None:
        self._faults += 1
        if code == _BAD_TOO_MANY_PUBLISH_REQUESTS and self._faults <= _FAULTS_LIMIT:
            self._waiting_limit = max(1, self._waiting)
        elif code == _BAD_NO_SUBSCRIPTION and self._faults <= _FAULTS_LIMIT:
            # The response to a request from before a subscription was added says nothing about that one.
            if added == self._added:
                deleted, self._subscribers = self._subscribers, {}
                for subscriber in deleted.values():
                    subscriber.on_deleted()
        elif code not in (_BAD_TIMEOUT, _BAD_REQUEST_TIMEOUT) or self._faults > _FAULTS_LIMIT:
            why = f"{self._connection.name} publishes nothing: {status_name(code)}"
            self._connection.end_session(DeviceUnreachable(why))

    def _on_connection_lost(self) -> None:
        for subscriber in list(self._subscribers.values()):
            subscriber.on_connection_lost()
