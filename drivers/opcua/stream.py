"""Messages of one subscription in their order, told as changes; nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from drivers.opcua.columns import unix_ns
from drivers.opcua.notifications import NotificationMessage, following, is_before
from drivers.opcua.told import Teller, Told
from edge.model import NO_TIME, Notification

_SAID = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
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
    bound_ns: int = 0
    heard_at_ns: int | None = None
    publishing_ns: int = 0
    silence_ns: int = 0
    failed: dict[int, int] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def new(self, sentences: Iterable[str]) -> tuple[str, ...]:
        """Those not said before."""
        new = tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in self.said)
        if len(self.said) < _SAID:
            self.said.update(new)
        return new


class Stream:
    """Tells what was notified, with honest times.

    The values of a message were sampled after the server made the one before it, and that was after it had the request
    that it answered: its `asked_at_ns` is when that request was sent, two or three publishing intervals before.
    For the first message it is when the items were asked for; what a server hands out then may be older: source times
    say so.

    Attributes:
        ended: StatusCode with which the server ended the subscription; None while it goes on.
        untold: the nodes of which nothing was told since the subscription began in this session.
    """

    def __init__(
        self, memory: SubscriptionMemory, teller: Teller, nodes: int, tell: Callable[[Notification], None]
    ) -> None:
        self._memory, self._teller, self._tell = memory, teller, tell
        self.ended: int | None = None
        self.untold = np.ones(nodes, np.bool_)
        self._lost_since_ns: int | None = None
        self._is_silent = True

    def begin(self, lost_since_ns: int | None) -> None:
        """Expect the values of now, of every node."""
        self.ended, self._lost_since_ns, self._is_silent = None, lost_since_ns, True
        self.untold[:] = True

    def misses(self, notification: NotificationMessage) -> bool:
        """Whether messages before this one did not arrive."""
        return is_before(self._memory.expected, notification.sequence)

    def has_told(self, notification: NotificationMessage) -> bool:
        """Whether this message was told before, or was given up."""
        return not notification.is_keep_alive and is_before(notification.sequence, self._memory.expected)

    def take(self, delivery: Delivery) -> None:
        """Tell a message before which none is missing; one that was told before is passed over.

        Raises:
            ProtocolViolation: the bytes are no such message.
            UnknownStructureError: the type of a structure has to be asked for first.
        """
        notification, memory = delivery.notification, self._memory
        if notification.is_keep_alive:
            self._alive(delivery)
        elif self.has_told(notification):
            return
        else:
            told = self._teller.tell(notification)
            self.untold[told.nodes[told.nodes < len(self.untold)]] = False
            device_time_ns = int(unix_ns(np.array([notification.device_time], np.int64))[0])
            device_time = None if device_time_ns == NO_TIME else device_time_ns
            self._hand_on(told, memory.bound_ns, delivery.arrived_at_ns, memory.new(told.sentences), device_time)
            memory.expected = following(notification.sequence)
            self.ended = notification.ended
        # What a message had no room for was sampled before it was made: the bound stays where it is.
        if not notification.has_more:
            memory.bound_ns = delivery.asked_at_ns
        memory.heard_at_ns = delivery.arrived_at_ns

    def fail(self, codes: Sequence[tuple[int, int]], sentences: Iterable[str], asked_at_ns: int, now_ns: int) -> None:
        """Tell of (node, status) that are not watched, and what else is not as it should be."""
        self.untold[[node for node, _ in codes]] = False
        new = self._memory.new(sentences)
        if codes or new:
            self._hand_on(self._teller.untold(codes), asked_at_ns, now_ns, new)

    def lose(self, sequence: int, now_ns: int) -> None:
        """Tell that the messages before this one are lost for good."""
        self._lost_since_ns = self._memory.heard_at_ns
        self._hand_on(self._teller.untold(()), now_ns, now_ns)
        self._memory.expected, self._memory.heard_at_ns = sequence, now_ns

    def _alive(self, delivery: Delivery) -> None:
        # Many servers begin with a word that they live: the values of now come first all the same.
        if self._is_silent and self.untold.any():
            self._is_silent = False
        else:
            self._hand_on(self._teller.untold(()), delivery.arrived_at_ns, delivery.arrived_at_ns)

    def _hand_on(
        self, told: Told, asked_at_ns: int, now_ns: int, new: tuple[str, ...] = (), device_ns: int | None = None
    ) -> None:
        changes = Notification(
            told.vectors, told.positions, told.codes, asked_at_ns, now_ns, told.source_times, device_ns,
            told.overflowed, self._lost_since_ns, new,
        )  # fmt: skip
        self._lost_since_ns, self._is_silent = None, False
        self._tell(changes)
