"""Scan groups whose changes the server notifies: a subscription each, with a monitored item for each node.

Theory of operation (OPC 10000-4, 5.12 and 5.13)

The server samples each monitored item, queues its changes, and every publishing interval puts them into a
NotificationMessage with the next sequence number, or sends a keep-alive after `keep_alive_count` intervals without one.
Messages travel in the responses to PublishRequests, which all subscriptions of a session share (see `publish`).

A subscription is in one of these states (`State`):

    state                   | entered by                                 | left by
    ACTIVE                  | CreateSubscription; a session that goes on | ENDED
                            | in a new connection; a transferred one     |
                            | that sent the initial values of all nodes  |
    AWAITING_INITIAL_VALUES | TransferSubscriptions (5.13.7) in a new    | ACTIVE; ENDED where a message leaves nodes
                            | session                                    | out, or none comes in time
    ENDED                   | a StatusChangeNotification; the server has | CreateSubscription of a new one: ACTIVE
                            | none in this session; the cases above      |

In every state a lost connection ends this object. Its `SubscriptionMemory` stays, so that the next connection goes on
with what the server kept for us (OPC 10000-4, 6.7). Where that continues the session, the subscription is still in it:
the messages that were under way are requested again by Republish, and nodes without a value are unchanged. In a new
session it is transferred. Either is tried once, until a message arrives; and a transfer only where the server has not
restarted: after a restart the same id may be the subscription of another client.

Order: a message with the expected sequence number is reported at once, inside the callback of its response. One with a
later number waits in `_queued` while a task requests those before it by Republish (5.13.6). What the server no longer
has is lost: a notification says since when. A message with an earlier number is a duplicate; it is dropped and is no
sign of life. A keep-alive carries the number of the next message, so it shows a gap too.

Silence: without any message for `max_silence_ns` (publishing interval times keep-alive count, and the timeout) the
connection is dropped. A transferred subscription has the publishing interval and the timeout for its initial values:
some servers answer Good to the transfer and never send any.

Monitored items (5.12.2): `MonitoredItems.create` requests one for each node, in chunks; where the server takes no
deadband, again without a filter. A node without an item is BAD, is in `memory.failed`, and is requested again every
`limits.retry_unknown`.

What can never happen: a value is reported twice, or before an earlier message; a message is skipped without a
notification that says so; a subscription that ends before it reports a value is created more than `_FRUITLESS_LIMIT`
times in succession; more than `_QUEUED_LIMIT` messages wait.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NoReturn

from asyncua import ua

from drivers.opcua.address_space import StructureDefinitions, Unresolved, resolve
from drivers.opcua.connection import Connection, ServiceRefused, status_name
from drivers.opcua.data_change import DataChangeDecoder
from drivers.opcua.datavalue import UnknownStructureError
from drivers.opcua.plan import SubscriptionPlan
from drivers.opcua.publish import MessageSequencer, PublishQueue, ReceivedMessage, SubscriptionMemory
from drivers.opcua.services import (
    CREATE_MONITORED_ITEMS,
    CREATE_SUBSCRIPTION,
    DELETE_SUBSCRIPTIONS,
    REPUBLISH,
    TRANSFER_SUBSCRIPTIONS,
    ChunkSize,
    ItemRequest,
    ItemResult,
    ServiceFaultError,
    ServiceRequest,
    create_items,
    create_subscription,
    delete_subscription,
    following,
    is_before,
    read_created,
    read_items,
    read_republish,
    read_transferred,
    republish_parameters,
    transfer_subscription,
)
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import Notification, StatusCode

_ITEMS_AT_ONCE = 500
_FILTER_REFUSED = frozenset({0x80430000, 0x80440000, 0x80450000, 0x808E0000})
"""BadMonitoredItemFilterInvalid, BadMonitoredItemFilterUnsupported, BadFilterNotAllowed, BadDeadbandFilterInvalid."""
_TOO_MUCH = frozenset({0x80080000, 0x80100000, 0x80B80000, 0x80B90000})
"""BadEncodingLimitsExceeded, BadTooManyOperations, BadRequestTooLarge, BadResponseTooLarge."""
_BAD_SUBSCRIPTION_ID_INVALID = 0x80280000


@dataclass(slots=True)
class Outcome:
    """The result of creating monitored items.

    Attributes:
        failed: status by number of node.
        sentences: how the server deviates from what it was asked for.
    """

    failed: dict[int, int] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


class MonitoredItems:
    """Creates monitored items in one session."""

    def __init__(self, connection: Connection, plan: SubscriptionPlan, chunk_size: ChunkSize) -> None:
        self._connection, self._plan, self._chunk_size = connection, plan, chunk_size

    async def create(self, subscription: int, numbers: Sequence[int]) -> Outcome:
        """Create items for these nodes of the plan. Raises as `Connection.ask`."""
        outcome = Outcome()
        plan = self._plan
        found = await resolve(self._connection, [plan.nodes[number].address for number in numbers])
        requested: list[ItemRequest] = []
        for number, node_id in zip(numbers, found, strict=True):
            if isinstance(node_id, Unresolved):
                outcome.failed[number] = int(StatusCode.BAD_ADDRESS)
                outcome.sentences.append(node_id.sentence)
            else:
                deadband = plan.deadbands[number]
                requested.append(ItemRequest(number, node_id, plan.sampling_ns / 1e6, plan.queue, deadband))
        # Neighbours of one type are decoded in one pass, see `data_change`.
        requested.sort(key=lambda item: plan.nodes[item.handle].selectors[0].type)
        created = await self._create_all(subscription, requested)
        unfiltered = [
            ItemRequest(item.handle, item.node_id, item.sampling_ms, item.queue, 0.0)
            for item in requested
            if item.deadband and created[item.handle].status in _FILTER_REFUSED
        ]
        if unfiltered:
            names = ", ".join(plan.nodes[item.handle].selectors[0].name for item in unfiltered[:20])
            outcome.sentences.append(f"the server takes no deadband for {len(unfiltered)} nodes ({names})")
            created = {**created, **await self._create_all(subscription, unfiltered)}
        outcome.failed |= {handle: item.status for handle, item in created.items() if item.status >> 31}
        outcome.sentences += _deviations(plan, created)
        return outcome

    async def _create_all(self, subscription: int, requested: Sequence[ItemRequest]) -> dict[int, ItemResult]:
        created: dict[int, ItemResult] = {}
        first = 0
        while first < len(requested):
            allowed = self._connection.operation_limits.monitored_items_per_call
            chunk = requested[first : first + self._chunk_size.within(_ITEMS_AT_ONCE, allowed)]
            request = ServiceRequest(CREATE_MONITORED_ITEMS, self._connection.token, create_items(subscription, chunk))
            handle, data = await self._connection.exchange(request)
            try:
                results = read_items(data, handle, len(chunk))
            except ServiceFaultError as fault:
                if fault.code in _TOO_MUCH and self._chunk_size.halve(len(chunk)):
                    continue
                refused = f"{self._connection.name} watches no nodes for us: {status_name(fault.code)}"
                raise ServiceRefused(refused, fault.code) from fault
            created |= {item.handle: result for item, result in zip(chunk, results, strict=True)}
            first += len(chunk)
        return created


def _deviations(plan: SubscriptionPlan, created: Mapping[int, ItemResult]) -> list[str]:
    """Revised sampling intervals and queue sizes that are worse than requested, as sentences."""
    good = [item for item in created.values() if not item.status >> 31]
    asked_ms = plan.sampling_ns / 1e6
    sentences = []
    if slow := [item.sampling_ms for item in good if item.sampling_ms > asked_ms > 0]:
        what = f"samples {len(slow)} of {len(good)} nodes every {max(slow):g} ms instead of every {asked_ms:g} ms"
        sentences.append(f"the server {what}")
    if short := [item.queue for item in good if item.queue < plan.queue]:
        what = f"keeps {min(short)} values of {len(short)} of {len(good)} nodes instead of {plan.queue}"
        sentences.append(f"the server {what}")
    return sentences


_QUEUED_LIMIT = 256
_REPUBLISHED_LIMIT = 100
_FRUITLESS_LIMIT = 3

Memories = MutableMapping[SubscriptionPlan, SubscriptionMemory]


class Subscriptions:
    """The subscriptions of one session; `memories` and `chunk_size` outlive it."""

    def __init__(
        self, connection: Connection, definitions: StructureDefinitions, clock: Clock, memories: Memories,
        chunk_size: ChunkSize,
    ) -> None:  # fmt: skip
        self._connection, self._definitions = connection, definitions
        self._clock, self._memories, self._chunk_size = clock, memories, chunk_size
        self._publish_queue = PublishQueue(connection, clock)

    async def receive_notifications(
        self, plan: SubscriptionPlan, on_notification: Callable[[Notification], None]
    ) -> NoReturn:
        """See `edge.driver.Subscribable`."""
        memory = self._memories.setdefault(plan, SubscriptionMemory())
        decoder = DataChangeDecoder(plan.nodes, plan.layout, self._connection.namespaces, self._definitions.known)
        sequencer = MessageSequencer(memory, decoder, len(plan.nodes), on_notification)
        items = MonitoredItems(self._connection, plan, self._chunk_size)
        parts = self._connection, self._publish_queue, self._definitions, self._clock
        subscription = Subscription(plan, memory, sequencer, items, parts, await self._server_started())
        try:
            await subscription.run()
        except ProtocolViolation as broken:
            self._connection.drop(broken)
            raise

    async def _server_started(self) -> object:
        """StartTime of the server, or None."""
        return (await self._connection.read([ua.ObjectIds.Server_ServerStatus_StartTime]))[0]


class State(Enum):
    """States of a subscription in one session; see the theory of operation."""

    ACTIVE = auto()
    AWAITING_INITIAL_VALUES = auto()
    ENDED = auto()


class Subscription:
    """One subscription in one session."""

    def __init__(
        self, plan: SubscriptionPlan, memory: SubscriptionMemory, sequencer: MessageSequencer, items: MonitoredItems,
        parts: tuple[Connection, PublishQueue, StructureDefinitions, Clock], server_started: object,
    ) -> None:  # fmt: skip
        self._connection, self._publish_queue, self._definitions, self._clock = parts
        self._plan, self._memory, self._sequencer, self._items = plan, memory, sequencer, items
        self._server_started = server_started
        self._id, self._state = 0, State.ACTIVE
        self._why_new = ""
        self._wakeup = asyncio.Event()
        self._queued: deque[ReceivedMessage] = deque()
        self._last_message_ns = self._retry_at_ns = 0
        self._fruitless = 0

    async def run(self) -> NoReturn:
        """Report every change until the session is lost."""
        try:
            if not await self._continue():
                await self._create(self._why_new)
            while True:
                why = await self._serve()
                self._publish_queue.remove(self._id)
                self._limit_fruitless(why)
                await self._create(why)
        finally:
            self._publish_queue.remove(self._id)

    def _limit_fruitless(self, why: str) -> None:
        """Drop the connection after too many subscriptions in succession that ended before they reported a value."""
        self._fruitless += 1
        if self._fruitless > _FRUITLESS_LIMIT:
            said = why or "it does not tell the values of now"
            self._connection.drop(DeviceUnreachable(f"{self._connection.name} keeps no subscription: {said}"))
            raise self._connection.lost()

    # Callbacks of the publish queue.

    def on_message(self, received: ReceivedMessage) -> None:
        """See `Subscriber.on_message`."""
        if self._sequencer.is_duplicate(received.notification):
            return  # No sign of life: a server that sends nothing else is silent.
        self._last_message_ns = received.arrived_at_ns
        if not self._queued and not self._sequencer.has_gap_before(received.notification):
            try:
                self._accept(received)
            except UnknownStructureError:
                pass
            else:
                return
        self._queued.append(received)
        self._wakeup.set()
        if len(self._queued) > _QUEUED_LIMIT:
            why = f"{self._connection.name} publishes faster than it says again what did not arrive"
            self._connection.drop(DeviceUnreachable(why))

    def on_deleted(self) -> None:
        """See `Subscriber.on_deleted`."""
        self._state = State.ENDED
        self._wakeup.set()

    def on_connection_lost(self) -> None:
        """See `Subscriber.on_connection_lost`."""
        self._wakeup.set()

    def _accept(self, received: ReceivedMessage) -> None:
        notification, sequencer = received.notification, self._sequencer
        sequencer.accept(received)
        if notification.changes:
            self._fruitless = 0
        if not notification.is_keep_alive:
            self._publish_queue.acknowledge(self._id, notification.sequence)
        if sequencer.ended is not None:
            self._end()
        elif self._state is State.AWAITING_INITIAL_VALUES and not notification.has_more:
            if sequencer.without_value.any():
                self._end()
            else:
                self._state = State.ACTIVE
        self._memory.can_continue = self._state is State.ACTIVE

    def _end(self) -> None:
        self._state = State.ENDED
        self._wakeup.set()

    # To ACTIVE and AWAITING_INITIAL_VALUES.

    async def _create(self, why: str = "") -> None:
        memory, plan = self._memory, self._plan
        asked_ms = plan.every_ns / 1e6
        parameters = create_subscription(asked_ms, plan.lifetime_count, plan.keep_alive_count)
        try:
            handle, data = await self._ask(CREATE_SUBSCRIPTION, parameters)
            revised = read_created(data, handle)
        except ServiceFaultError as fault:
            refused = f"{self._connection.name} makes no subscription for us: {status_name(fault.code)}"
            raise ServiceRefused(refused, fault.code) from fault
        self._start(revised.subscription, memory.last_message_ns, why)
        memory.publishing_ns = round(revised.publishing_ms * 1e6)
        memory.max_silence_ns = memory.publishing_ns * revised.keep_alive_count + plan.limits.timeout
        memory.expected, memory.sampled_after_ns, memory.failed = 1, self._clock.boot_ns(), {}
        sentences = []
        if revised.publishing_ms != asked_ms:
            got = f"every {revised.publishing_ms:g} ms"
            sentences.append(f"the server publishes {got} instead of every {asked_ms:g} ms")
        await self._create_items(range(len(plan.nodes)), sentences)
        memory.subscription, memory.server_started = revised.subscription, self._server_started
        memory.can_continue = True
        self._publish_queue.add(revised.subscription, self)

    async def _continue(self) -> bool:
        """Go on with the subscription of an earlier connection; False where there is none, or a new one is needed."""
        memory, kept = self._memory, self._memory.subscription
        is_same_server = memory.server_started == self._server_started
        can_continue, memory.can_continue = memory.can_continue and is_same_server, False
        if kept is None or kept in self._publish_queue:
            return False
        if not can_continue:
            if self._connection.is_continued:
                await self._ask(DELETE_SUBSCRIPTIONS, delete_subscription(kept))
            return False
        if not self._connection.is_continued:
            return await self._transfer(kept)
        self._start(kept, None)
        self._sequencer.resume()
        for _ in range(_REPUBLISHED_LIMIT):
            if self._state is State.ENDED or not await self._republish():
                break
        if self._state is State.ACTIVE:
            self._sequencer.report_continued(self._clock.boot_ns())
            self._publish_queue.add(kept, self)
        return True

    async def _transfer(self, kept: int) -> bool:
        """Transfer the subscription of an earlier session with what it kept for us; False where it cannot be."""
        memory = self._memory
        handle, data = await self._ask(TRANSFER_SUBSCRIPTIONS, transfer_subscription(kept))
        try:
            status, available = read_transferred(data, handle)
        except ServiceFaultError as fault:
            status, available = fault.code, []
        if status >> 30:
            self._why_new = (
                f"the server does not hand the subscription over to a new session ({status_name(status)}): what it "
                "kept while the connection was lost is lost"
            )
            return False
        self._start(kept, None)
        waiting = [sequence for sequence in available if not is_before(sequence, memory.expected)]
        for sequence in sorted(waiting, key=lambda number: (number - memory.expected) % 2**32)[:_REPUBLISHED_LIMIT]:
            await self._republish_until(following(sequence))
        again, memory.failed = list(memory.failed), {}
        if again:
            await self._create_items(again)
        if self._state is State.ACTIVE:  # A republished message may have ended it.
            self._state = State.AWAITING_INITIAL_VALUES
        self._publish_queue.add(kept, self)
        return True

    def _start(self, subscription: int, lost_since_ns: int | None, why: str = "") -> None:
        self._id, self._state = subscription, State.ACTIVE
        self._last_message_ns = self._clock.boot_ns()
        self._queued.clear()
        self._sequencer.restart(lost_since_ns, why)

    async def _create_items(self, numbers: Iterable[int], sentences: Iterable[str] = ()) -> None:
        """Create monitored items, and report the nodes that get none."""
        memory, asked_at_ns = self._memory, self._clock.boot_ns()
        outcome = await self._items.create(self._id, list(numbers))
        before, memory.failed = memory.failed, outcome.failed
        changed = [(node, code) for node, code in outcome.failed.items() if before.get(node) != code]
        now_ns = self._clock.boot_ns()
        self._retry_at_ns = now_ns + self._plan.limits.retry_unknown
        self._sequencer.report_bad(changed, [*sentences, *outcome.sentences], asked_at_ns, now_ns)

    # In ACTIVE and AWAITING_INITIAL_VALUES.

    async def _serve(self) -> str:
        """Do what a callback cannot wait for, until ENDED; returns why the subscription ended."""
        while True:
            await self._wait()
            if self._connection.is_lost:
                raise self._connection.lost()
            while self._queued and self._state is not State.ENDED:
                await self._accept_queued(self._queued[0])
                self._queued.popleft()
            self._check_silence()
            if self._state is State.ENDED:
                return await self._why_ended()
            if self._memory.failed and self._clock.boot_ns() >= self._retry_at_ns:
                await self._create_items(list(self._memory.failed))

    @property
    def _max_silence_ns(self) -> int:
        """How long no message may come."""
        memory = self._memory
        if self._state is State.AWAITING_INITIAL_VALUES:
            return memory.publishing_ns + self._plan.limits.timeout
        return memory.max_silence_ns

    async def _wait(self) -> None:
        """Wait until there is something to do."""
        due_ns = self._last_message_ns + self._max_silence_ns
        if self._memory.failed:
            due_ns = min(due_ns, self._retry_at_ns)
        try:
            async with asyncio.timeout(max(0, due_ns - self._clock.boot_ns()) / 1e9):
                await self._wakeup.wait()
        except TimeoutError:
            return
        self._wakeup.clear()

    def _check_silence(self) -> None:
        silent_ns = self._clock.boot_ns() - self._last_message_ns
        if silent_ns < self._max_silence_ns:
            return
        if self._state is State.AWAITING_INITIAL_VALUES:
            self._state = State.ENDED
        else:
            why = f"{self._connection.name} did not say for {silent_ns / 1e9:.3g} s that it lives"
            self._connection.drop(DeviceUnreachable(why))
            raise self._connection.lost()

    async def _why_ended(self) -> str:
        if self._sequencer.ended is not None:
            return f"the server ended the subscription: {status_name(self._sequencer.ended)}"
        if self._id in self._publish_queue:  # It sent no initial values: another one does.
            await self._ask(DELETE_SUBSCRIPTIONS, delete_subscription(self._id))
            return ""
        return "the server forgot the subscription"

    async def _accept_queued(self, received: ReceivedMessage) -> None:
        """Accept a message that had to wait for others, or for the definition of a structure."""
        if self._sequencer.has_gap_before(received.notification):
            await self._republish_until(received.notification.sequence)
        await self._accept_with_definitions(received)

    async def _accept_with_definitions(self, received: ReceivedMessage) -> None:
        while True:
            try:
                self._accept(received)
            except UnknownStructureError as unknown:
                await self._definitions.learn(unknown)
            else:
                return

    async def _republish_until(self, sequence: int) -> None:
        """Request the missing messages before this one; report those that the server no longer has as lost."""
        for _ in range(_REPUBLISHED_LIMIT):
            if self._memory.expected == sequence:
                return
            if not await self._republish():
                break
        self._sequencer.skip_to(sequence, self._clock.boot_ns())

    async def _republish(self) -> bool:
        """Request the expected message again, and accept it; False where the server does not have it."""
        wanted = self._memory.expected
        handle, data = await self._ask(REPUBLISH, republish_parameters(self._id, wanted))
        head, notification = read_republish(data, handle, self._id)
        if head.result == _BAD_SUBSCRIPTION_ID_INVALID:
            self._end()
        if notification is None or notification.sequence != wanted or notification.is_keep_alive:
            return False
        received = ReceivedMessage(notification, self._memory.sampled_after_ns, self._clock.boot_ns())
        await self._accept_with_definitions(received)
        return True

    async def _ask(self, service: int, parameters: bytes) -> tuple[int, bytes]:
        timeout_ms = self._plan.limits.timeout // 10**6
        return await self._connection.exchange(ServiceRequest(service, self._connection.token, parameters, timeout_ms))
