"""Scan groups whose changes the server notifies: subscriptions and their monitored items.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
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
    ItemMade,
    ItemWanted,
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


@dataclass(slots=True)
class Outcome:
    """What became of the nodes that were to be watched.

    Attributes:
        failed: status by number of node.
        sentences: what the server does otherwise than it was asked to.
    """

    failed: dict[int, int] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


class MonitoredItems:
    """Makes monitored items in one session."""

    def __init__(self, connection: Connection, plan: SubscriptionPlan, chunk_size: ChunkSize) -> None:
        self._connection, self._plan, self._chunk_size = connection, plan, chunk_size

    async def make(self, subscription: int, numbers: Sequence[int]) -> Outcome:
        """Have these nodes of the plan watched. Raises as `Connection.ask`."""
        outcome = Outcome()
        plan = self._plan
        found = await resolve(self._connection, [plan.nodes[number].address for number in numbers])
        wanted: list[ItemWanted] = []
        for number, node_id in zip(numbers, found, strict=True):
            if isinstance(node_id, Unresolved):
                outcome.failed[number] = int(StatusCode.BAD_ADDRESS)
                outcome.sentences.append(node_id.sentence)
            else:
                deadband = plan.deadbands[number]
                wanted.append(ItemWanted(number, node_id, plan.sampling_ns / 1e6, plan.queue, deadband))
        # Neighbours of one type are told in one stride, see `told`.
        wanted.sort(key=lambda item: plan.nodes[item.handle].selectors[0].type)
        made = await self._make_all(subscription, wanted)
        unfiltered = [
            ItemWanted(item.handle, item.node_id, item.sampling_ms, item.queue, 0.0)
            for item in wanted
            if item.deadband and made[item.handle].status in _FILTER_REFUSED
        ]
        if unfiltered:
            names = ", ".join(plan.nodes[item.handle].selectors[0].name for item in unfiltered[:20])
            outcome.sentences.append(f"the server takes no deadband for {len(unfiltered)} nodes ({names})")
            made = {**made, **await self._make_all(subscription, unfiltered)}
        outcome.failed |= {handle: item.status for handle, item in made.items() if item.status >> 31}
        outcome.sentences += _revised(plan, made)
        return outcome

    async def _make_all(self, subscription: int, wanted: Sequence[ItemWanted]) -> dict[int, ItemMade]:
        made: dict[int, ItemMade] = {}
        first = 0
        while first < len(wanted):
            allowed = self._connection.operation_limits.monitored_items_per_call
            chunk = wanted[first : first + self._chunk_size.within(_ITEMS_AT_ONCE, allowed)]
            request = ServiceRequest(CREATE_MONITORED_ITEMS, self._connection.token, create_items(subscription, chunk))
            handle, data = await self._connection.exchange(request)
            try:
                answers = read_items(data, handle, len(chunk))
            except ServiceFaultError as fault:
                if fault.code in _TOO_MUCH and self._chunk_size.halve(len(chunk)):
                    continue
                refused = f"{self._connection.name} watches no nodes for us: {status_name(fault.code)}"
                raise ServiceRefused(refused, fault.code) from fault
            made |= {item.handle: answer for item, answer in zip(chunk, answers, strict=True)}
            first += len(chunk)
        return made


def _revised(plan: SubscriptionPlan, made: Mapping[int, ItemMade]) -> list[str]:
    """In which the server does not follow us."""
    good = [item for item in made.values() if not item.status >> 31]
    asked_ms = plan.sampling_ns / 1e6
    sentences = []
    if slow := [item.sampling_ms for item in good if item.sampling_ms > asked_ms > 0]:
        what = f"samples {len(slow)} of {len(good)} nodes every {max(slow):g} ms instead of every {asked_ms:g} ms"
        sentences.append(f"the server {what}")
    if short := [item.queue for item in good if item.queue < plan.queue]:
        what = f"keeps {min(short)} values of {len(short)} of {len(good)} nodes instead of {plan.queue}"
        sentences.append(f"the server {what}")
    return sentences


_HELD = 256
_REPUBLISHED = 100
_USELESS = 3

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
        stream = MessageSequencer(memory, decoder, len(plan.nodes), on_notification)
        items = MonitoredItems(self._connection, plan, self._chunk_size)
        parts = self._connection, self._publish_queue, self._definitions, self._clock
        subscription = Subscription(plan, memory, stream, items, parts, await self._server_started())
        try:
            await subscription.run()
        except ProtocolViolation as broken:
            self._connection.drop(broken)
            raise

    async def _server_started(self) -> object:
        """The server's own word for when it started, or None."""
        return (await self._connection.read([ua.ObjectIds.Server_ServerStatus_StartTime]))[0]


class Subscription:
    """One of them."""

    def __init__(
        self, plan: SubscriptionPlan, memory: SubscriptionMemory, stream: MessageSequencer, items: MonitoredItems,
        parts: tuple[Connection, PublishQueue, StructureDefinitions, Clock], server_started: object,
    ) -> None:  # fmt: skip
        self._connection, self._publish_queue, self._definitions, self._clock = parts
        self._plan, self._memory, self._stream, self._items = plan, memory, stream, items
        self._server_started = server_started
        self._id = 0
        self._woken = asyncio.Event()
        self._held: deque[ReceivedMessage] = deque()
        self._is_gone = self._must_be_complete = False
        self._last_sign_ns = self._retry_at_ns = 0
        self._useless = 0

    async def run(self) -> NoReturn:
        """Tell every change until the session is lost."""
        try:
            if not await self._transfer():
                await self._create()
            while True:
                why = await self._attend()
                self._publish_queue.leave(self._id)
                self._check_use(why)
                await self._create(why)
        finally:
            self._publish_queue.leave(self._id)

    def _check_use(self, why: str) -> None:
        """Do not make for ever what ends before it tells anything."""
        self._useless += 1
        if self._useless > _USELESS:
            said = why or "it does not tell the values of now"
            self._connection.drop(DeviceUnreachable(f"{self._connection.name} keeps no subscription: {said}"))
            raise self._connection.lost()

    # What the publisher calls.

    def take(self, received: ReceivedMessage) -> None:
        """See `Subscriber.take`."""
        if self._stream.is_duplicate(received.notification):
            return  # One that was asked for again comes late; a server that sends nothing else is silent.
        self._last_sign_ns = received.arrived_at_ns
        if not self._held and not self._stream.has_gap_before(received.notification):
            try:
                self._tell(received)
            except UnknownStructureError:
                pass
            else:
                return
        self._held.append(received)
        self._woken.set()
        if len(self._held) > _HELD:
            why = f"{self._connection.name} publishes faster than it says again what did not arrive"
            self._connection.drop(DeviceUnreachable(why))

    def gone(self) -> None:
        """See `Subscriber.gone`."""
        self._is_gone = True
        self._woken.set()

    def lost(self) -> None:
        """See `Subscriber.lost`."""
        self._woken.set()

    def _tell(self, received: ReceivedMessage) -> None:
        notification, stream = received.notification, self._stream
        stream.take(received)
        if notification.changes:
            self._useless = 0
        if not notification.is_keep_alive:
            self._publish_queue.received(self._id, notification.sequence)
        if stream.ended is not None or (
            self._must_be_complete and not notification.has_more and stream.without_value.any()
        ):
            self._is_gone = True
            self._woken.set()
        self._must_be_complete &= notification.has_more
        if not (self._must_be_complete or self._is_gone):
            self._memory.subscription = self._id

    # Making it.

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
        self._begin(revised.subscription, memory.last_message_ns)
        memory.publishing_ns = round(revised.publishing_ms * 1e6)
        memory.max_silence_ns = memory.publishing_ns * revised.keep_alive_count + plan.limits.timeout
        memory.expected, memory.sampled_after_ns, memory.failed = 1, self._clock.boot_ns(), {}
        sentences = [why] if why else []
        if revised.publishing_ms != asked_ms:
            sentences.append(
                f"the server publishes every {revised.publishing_ms:g} ms instead of every {asked_ms:g} ms"
            )
        await self._watch(range(len(plan.nodes)), sentences)
        memory.subscription, memory.server_started = revised.subscription, self._server_started
        self._publish_queue.join(revised.subscription, self)

    async def _transfer(self) -> bool:
        """Have the subscription of an earlier session go on in this one, with what it kept for us."""
        memory = self._memory
        kept, memory.subscription = memory.subscription, None  # Where this goes wrong it is not tried again.
        if kept is None or kept in self._publish_queue or memory.server_started != self._server_started:
            return False
        handle, data = await self._ask(TRANSFER_SUBSCRIPTIONS, transfer_subscription(kept))
        try:
            status, available = read_transferred(data, handle)
        except ServiceFaultError:
            return False
        if status >> 30:
            return False
        self._begin(kept, None)
        waiting = [sequence for sequence in available if not is_before(sequence, memory.expected)]
        for sequence in sorted(waiting, key=lambda number: (number - memory.expected) % 2**32)[:_REPUBLISHED]:
            await self._fetch_until(following(sequence))
        again, memory.failed = list(memory.failed), {}
        if again:
            await self._watch(again)
        self._must_be_complete = True
        self._publish_queue.join(kept, self)
        return True

    def _begin(self, subscription: int, lost_since_ns: int | None) -> None:
        self._id, self._is_gone, self._must_be_complete = subscription, False, False
        self._last_sign_ns = self._clock.boot_ns()
        self._held.clear()
        self._stream.begin(lost_since_ns)

    async def _watch(self, numbers: Iterable[int], sentences: Iterable[str] = ()) -> None:
        """Have nodes watched, and tell of those that cannot be."""
        memory, asked_at_ns = self._memory, self._clock.boot_ns()
        outcome = await self._items.make(self._id, list(numbers))
        before, memory.failed = memory.failed, outcome.failed
        changed = [(node, code) for node, code in outcome.failed.items() if before.get(node) != code]
        now_ns = self._clock.boot_ns()
        self._retry_at_ns = now_ns + self._plan.limits.retry_unknown
        self._stream.fail(changed, [*sentences, *outcome.sentences], asked_at_ns, now_ns)

    # Keeping it.

    async def _attend(self) -> str:
        """Do what cannot be done while a notification is taken; returns why the subscription has to be made again."""
        while True:
            await self._wait()
            if self._connection.is_lost:
                raise self._connection.lost()
            while self._held and not self._is_gone:
                await self._settle(self._held[0])
                self._held.popleft()
            self._look_at_silence()
            if self._is_gone:
                return await self._why_gone()
            if self._memory.failed and self._clock.boot_ns() >= self._retry_at_ns:
                await self._watch(list(self._memory.failed))

    @property
    def _silence_ns(self) -> int:
        """How long nothing need be heard."""
        memory = self._memory
        # What was transferred brings the values of now at once, or never: some servers only say that they did it.
        return memory.publishing_ns + self._plan.limits.timeout if self._must_be_complete else memory.max_silence_ns

    async def _wait(self) -> None:
        """Until there is something to do."""
        due_ns = self._last_sign_ns + self._silence_ns
        if self._memory.failed:
            due_ns = min(due_ns, self._retry_at_ns)
        try:
            async with asyncio.timeout(max(0, due_ns - self._clock.boot_ns()) / 1e9):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    def _look_at_silence(self) -> None:
        silent_ns = self._clock.boot_ns() - self._last_sign_ns
        if silent_ns < self._silence_ns:
            return
        if self._must_be_complete:
            self._is_gone = True
        else:
            why = f"{self._connection.name} did not say for {silent_ns / 1e9:.3g} s that it lives"
            self._connection.drop(DeviceUnreachable(why))
            raise self._connection.lost()

    async def _why_gone(self) -> str:
        if self._stream.ended is not None:
            return f"the server ended the subscription: {status_name(self._stream.ended)}"
        if self._id in self._publish_queue:  # It goes on without the values of now: another one brings them.
            await self._ask(DELETE_SUBSCRIPTIONS, delete_subscription(self._id))
            return ""
        return "the server forgot the subscription"

    async def _settle(self, received: ReceivedMessage) -> None:
        """Tell a message that is held, once what it needs is there."""
        if self._stream.has_gap_before(received.notification):
            await self._fetch_until(received.notification.sequence)
        await self._tell_patiently(received)

    async def _tell_patiently(self, received: ReceivedMessage) -> None:
        while True:
            try:
                self._tell(received)
            except UnknownStructureError as unknown:
                await self._definitions.learn(unknown.encoding)
            else:
                return

    async def _fetch_until(self, sequence: int) -> None:
        """Ask again for the messages before this one that did not arrive (OPC 10000-4, 5.13.6)."""
        memory = self._memory
        for _ in range(_REPUBLISHED):
            if memory.expected == sequence:
                return
            wanted = memory.expected
            handle, data = await self._ask(REPUBLISH, republish_parameters(self._id, wanted))
            notification = read_republish(data, handle, self._id)[1]
            if notification is None or notification.sequence != wanted or notification.is_keep_alive:
                break
            await self._tell_patiently(ReceivedMessage(notification, memory.sampled_after_ns, self._clock.boot_ns()))
        self._stream.lose(sequence, self._clock.boot_ns())

    async def _ask(self, service: int, parameters: bytes) -> tuple[int, bytes]:
        timeout_ms = self._plan.limits.timeout // 10**6
        return await self._connection.exchange(ServiceRequest(service, self._connection.token, parameters, timeout_ms))
