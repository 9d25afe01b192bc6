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
deadband, again without a filter. What does not fit into a subscription moves to one more of the same scan group
(BadTooManyMonitoredItems), until one takes nothing at all. A node without an item is BAD, is in `memory.failed`, and is
requested again every `limits.retry_unknown`.

What can never happen: a value is reported twice, or before an earlier message; a message is skipped without a
notification that says so; a subscription that ends before it reports a value is created more than `_FRUITLESS_LIMIT`
times in succession; more than `_QUEUED_LIMIT` messages wait.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from enum import Enum, auto
from typing import NoReturn

from asyncua import ua

from drivers.opcua.address_space import StructureDefinitions
from drivers.opcua.connection import Connection, ServiceRefused, status_name
from drivers.opcua.data_change import DataChangeDecoder
from drivers.opcua.datavalue import UnknownStructureError
from drivers.opcua.monitored_items import TOO_MANY_ITEMS, MonitoredItems, refusals
from drivers.opcua.plan import SubscriptionPlan
from drivers.opcua.publish import MessageSequencer, PublishQueue, ReceivedMessage, SubscriptionMemory
from drivers.opcua.services import (
    CREATE_SUBSCRIPTION,
    DELETE_SUBSCRIPTIONS,
    REPUBLISH,
    TRANSFER_SUBSCRIPTIONS,
    ChunkSize,
    ServiceFaultError,
    ServiceRequest,
    create_subscription,
    delete_subscription,
    following,
    is_before,
    read_created,
    read_republish,
    read_transferred,
    republish_parameters,
    transfer_subscription,
)
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import Notification

_BAD_SUBSCRIPTION_ID_INVALID = 0x80280000


_QUEUED_LIMIT = 256
_REPUBLISHED_LIMIT = 100
_FRUITLESS_LIMIT = 3

_SUBSCRIPTIONS_LIMIT = 100  # Of one scan group.

Memories = MutableMapping[SubscriptionPlan, list[SubscriptionMemory]]


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
        memories = self._memories.setdefault(plan, [SubscriptionMemory(range(len(plan.nodes)))])
        decoder = DataChangeDecoder(plan.nodes, plan.layout, self._connection.namespaces, self._definitions.known)
        items = MonitoredItems(self._connection, plan, self._chunk_size)
        parts = self._connection, self._publish_queue, self._definitions, self._clock
        started = await self._server_started()
        tasks: list[asyncio.Task[NoReturn]] = []
        lost: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()

        def start(memory: SubscriptionMemory) -> None:
            sequencer = MessageSequencer(memory, decoder, len(plan.nodes), on_notification)
            subscription = Subscription(plan, memory, sequencer, items, parts, started, split)
            tasks.append(asyncio.create_task(subscription.run()))
            tasks[-1].add_done_callback(note_end)

        def split(nodes: Sequence[int]) -> bool:
            if len(memories) >= _SUBSCRIPTIONS_LIMIT:
                return False
            memories.append(SubscriptionMemory(nodes, is_extra=True))
            start(memories[-1])
            return True

        def note_end(task: asyncio.Task[NoReturn]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None and not lost.done():
                lost.set_exception(error)

        try:
            for memory in tuple(memories):
                start(memory)
            await lost
        except ProtocolViolation as broken:
            self._connection.drop(broken)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        raise AssertionError("a subscription is only left by the loss of its session")

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
        split: Callable[[Sequence[int]], bool],
    ) -> None:  # fmt: skip
        """`split` takes nodes over for one more subscription; False where there are too many already."""
        self._connection, self._publish_queue, self._definitions, self._clock = parts
        self._plan, self._memory, self._sequencer, self._items = plan, memory, sequencer, items
        self._server_started, self._split = server_started, split
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
        while True:
            asked_at_ns = self._clock.boot_ns()
            try:
                handle, data = await self._ask(CREATE_SUBSCRIPTION, parameters)
                revised = read_created(data, handle)
                break
            except ServiceFaultError as fault:
                if not memory.is_extra:
                    refused = f"{self._connection.name} makes no subscription for us ({status_name(fault.code)}): "
                    refused += "poll the scan group, without `subscribe`"
                    raise ServiceRefused(refused, fault.code) from fault
                self._report_failed(dict.fromkeys(memory.nodes, fault.code), (), asked_at_ns)
            await asyncio.sleep(plan.limits.retry_unknown / 1e9)
        self._start(revised.subscription, memory.last_message_ns, why)
        memory.publishing_ns = round(revised.publishing_ms * 1e6)
        memory.max_silence_ns = memory.publishing_ns * revised.keep_alive_count + plan.limits.timeout
        memory.expected, memory.sampled_after_ns, memory.failed = 1, self._clock.boot_ns(), {}
        sentences = []
        if revised.publishing_ms != asked_ms:
            got = f"every {revised.publishing_ms:g} ms"
            sentences.append(f"the server publishes {got} instead of every {asked_ms:g} ms")
        await self._create_items(memory.nodes, sentences)
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
        """Create monitored items, and report the nodes that get none, or move them to one more subscription."""
        memory, asked_at_ns = self._memory, self._clock.boot_ns()
        outcome = await self._items.create(self._id, list(numbers))
        failed = outcome.failed
        more = [node for node, code in failed.items() if code == TOO_MANY_ITEMS]
        if more and len(failed) < len(memory.nodes) and self._split(more):
            memory.nodes = [node for node in memory.nodes if node not in set(more)]
            self._sequencer.without_value[more] = False
            failed = {node: code for node, code in failed.items() if code != TOO_MANY_ITEMS}
        self._report_failed(failed, [*sentences, *outcome.sentences], asked_at_ns)

    def _report_failed(self, failed: dict[int, int], sentences: Iterable[str], asked_at_ns: int) -> None:
        """Report the nodes without a monitored item whose status is another one than before."""
        before, self._memory.failed = self._memory.failed, failed
        changed = {node: code for node, code in failed.items() if before.get(node) != code}
        now_ns = self._clock.boot_ns()
        self._retry_at_ns = now_ns + self._plan.limits.retry_unknown
        sentences = [*sentences, *refusals(self._plan, changed)]
        self._sequencer.report_bad(list(changed.items()), sentences, asked_at_ns, now_ns)

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
