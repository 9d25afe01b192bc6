"""A session with one server: reads plans, receives notifications, browses.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from asyncua import ua

from drivers.opcua.address_space import Resolved, StructureDefinitions, Unresolved, resolve
from drivers.opcua.browse import browse
from drivers.opcua.channel import EndedByServer
from drivers.opcua.connection import Connection, ServiceRefused, status_name
from drivers.opcua.datavalue import UnknownStructureError
from drivers.opcua.decode import PolledPlan, ReadChunk
from drivers.opcua.metadata import read_identity, read_tag_metadata
from drivers.opcua.plan import OpcuaPlan, SubscriptionPlan
from drivers.opcua.services import ChunkSize, ReadRequest, ServiceFaultError
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.subscription import Memories, Subscriptions
from edge.clock import Clock
from edge.driver import BrowseEntry
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Notification, Reading, StatusCode, TagMetadata
from edge.units import format_duration

TOO_MUCH = frozenset({0x80080000, 0x80100000, 0x80800000, 0x80B80000, 0x80B90000})
"""BadEncodingLimitsExceeded, BadTooManyOperations, BadTcpMessageTooLarge, BadRequestTooLarge, BadResponseTooLarge."""

_OTHERS = 4  # How many other nodes are asked for, before one is held to be the reason of a refusal.


class OpcuaSession:
    """See `edge.driver.Session`."""

    def __init__(
        self, connection: Connection, device: OpcuaDevice, clock: Clock, chunk_size: ChunkSize, memories: Memories
    ) -> None:
        self._connection, self._device, self._clock, self._chunk_size = connection, device, clock, chunk_size
        self._definitions = StructureDefinitions(connection)
        self._subscriptions = Subscriptions(connection, self._definitions, clock, memories, chunk_size)
        self._polled: dict[OpcuaPlan, PolledPlan] = {}
        self._node_ids: dict[OpcuaPlan, list[Resolved]] = {}

    async def read(self, plan: OpcuaPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no value changed since the last scan, `vectors` is the very same tuple as in the reading before.
        """
        polled = self._polled.get(plan)
        if polled is None:
            polled = self._polled[plan] = PolledPlan(plan)
        await self._find_nodes(polled)
        asked_at_ns = self._clock.boot_ns()
        while not await self._read_all(polled):
            self._divide(polled)
        return polled.reading(asked_at_ns, self._clock.boot_ns())

    def forget(self, plan: OpcuaPlan) -> None:
        """See `edge.driver.Forgets.forget`."""
        self._polled.pop(plan, None)
        self._node_ids.pop(plan, None)

    async def receive_notifications(
        self, plan: SubscriptionPlan, on_notification: Callable[[Notification], None]
    ) -> NoReturn:
        """See `edge.driver.Subscribable.receive_notifications`."""
        await self._subscriptions.receive_notifications(plan, on_notification)

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        return await read_identity(self._connection)

    async def tag_metadata(self, plan: OpcuaPlan | SubscriptionPlan) -> Sequence[TagMetadata]:
        """See `edge.driver.HasTagMetadata.tag_metadata`."""
        return await read_tag_metadata(self._connection, plan) if self._device.facts else ()

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """See `edge.driver.Browsable.browse`."""
        return await browse(self._connection, self._device, path)

    async def _find_nodes(self, polled: PolledPlan) -> None:
        """Resolve the plan's addresses, also those that were missing once it is time to retry."""
        is_looked_for = polled.missing or polled.plan not in self._node_ids
        if is_looked_for and (now_ns := self._clock.boot_ns()) >= polled.retry_at_ns:
            polled.retry_at_ns = now_ns + self._device.limits.retry_unknown
            found = await resolve(self._connection, [node.address for node in polled.plan.nodes])
            lost = {number: node for number, node in enumerate(found) if isinstance(node, Unresolved)}
            polled.missing = dict.fromkeys(lost, int(StatusCode.BAD_ADDRESS))
            polled.unresolved = tuple(node.sentence for node in lost.values())
            polled.is_split = False
            self._node_ids[polled.plan] = found
        if not polled.is_split:
            self._divide(polled)

    def _divide(self, polled: PolledPlan) -> None:
        node_ids = self._node_ids[polled.plan]
        there = [
            (number, node)
            for number, node in enumerate(node_ids)
            if number not in polled.missing and isinstance(node, bytes)
        ]
        there.sort(key=lambda one: not polled.plan.nodes[one[0]].has_fixed_size)
        size = self._chunk_size.within(
            self._device.limits.nodes_per_read, self._connection.operation_limits.nodes_per_read
        )
        polled.split(self._requests(there, size, polled.begins))

    def _requests(
        self, nodes: Sequence[tuple[int, bytes]], size: int, begins: Container[int] = ()
    ) -> Iterator[tuple[list[int], ReadRequest]]:
        timeout_ms = self._device.limits.timeout // 10**6
        chunk: list[tuple[int, bytes]] = []
        for at, one in enumerate(nodes):
            chunk.append(one)
            if len(chunk) == size or at + 1 == len(nodes) or nodes[at + 1][0] in begins:
                request = ReadRequest([node for _, node in chunk], self._connection.token, timeout_ms)
                yield [number for number, _ in chunk], request
                chunk = []

    async def _read_all(self, polled: PolledPlan) -> bool:
        """Read every chunk once; False where the server needs smaller ones."""
        chunks = iter(polled.chunks)
        readers = min(self._device.limits.in_flight, len(polled.chunks))
        if readers <= 1:
            return await self._read_in_turn(chunks, polled)
        tasks = [asyncio.ensure_future(self._read_in_turn(chunks, polled)) for _ in range(readers)]
        try:
            return all(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read_in_turn(self, chunks: Iterable[ReadChunk], polled: PolledPlan) -> bool:
        gap_s = self._device.limits.gap / 1e9
        is_first = True
        for chunk in chunks:
            if gap_s and not is_first:
                await asyncio.sleep(gap_s)
            is_first = False
            if not self._connection.fits(chunk.request) and self._chunk_size.halve(chunk.request.count):
                return False
            try:
                polled.exclude(await self._read_chunk(chunk))
            except ServiceRefused as refused:
                if not await self._ask_less(polled, chunk, refused.status):
                    raise
                return False
        return True

    async def _ask_less(self, polled: PolledPlan, chunk: ReadChunk, code: int) -> bool:
        """Change what is asked for after the refusal of a request; False where the server refuses every node.

        Where so many nodes were never answered, that may be too many. Else one of them is the reason: the request is
        divided until that node is alone, which is left out.
        """
        count = chunk.request.count
        if code in TOO_MUCH and count > self._chunk_size.answered and self._chunk_size.halve(count):
            return True
        if count > 1:
            polled.begins.add(chunk.numbers[count // 2])
            return True
        (number,) = chunk.numbers
        if not await self._answers_another(polled, number):
            polled.begins.clear()
            return False
        polled.exclude({number: code})
        node = polled.plan.nodes[number]
        names = ", ".join(polled.plan.tags[selector.tag].name for selector in node.selectors)
        pause = format_duration(self._device.limits.retry_unknown)
        why = f"the server refuses each request with {node.address} ({status_name(code)}), and answers others"
        polled.unresolved += (f"{names}: {why}; it is asked again every {pause}",)
        return True

    async def _answers_another(self, polled: PolledPlan, number: int) -> bool:
        """Whether the server answers a request for one of some other nodes."""
        node_ids = enumerate(self._node_ids[polled.plan])
        others = [(n, node) for n, node in node_ids if isinstance(node, bytes) and n not in {number, *polled.missing}]
        for numbers, request in self._requests(others[:: max(1, len(others) // _OTHERS)], 1):
            with suppress(ServiceRefused):
                nodes = [polled.plan.nodes[n] for n in numbers]
                await self._read_chunk(ReadChunk(numbers, nodes, polled.plan.layout, request))
                return True
        return False

    async def _read_chunk(self, chunk: ReadChunk) -> Mapping[int, int]:
        try:
            handle, data = await self._connection.exchange(chunk.request)
        except DeviceUnreachable as lost:
            if isinstance(lost, EndedByServer) and lost.status in TOO_MUCH:
                self._chunk_size.halve(chunk.request.count)
            elif self._connection.is_lost:
                self._chunk_size.note_loss(chunk.request.count)
            raise
        while True:
            try:
                unknown = chunk.decode(data, handle, self._definitions.known, self._connection.namespaces)
            except UnknownStructureError as unknown:
                await self._definitions.learn(unknown)
            except ServiceFaultError as fault:
                await self._connection.ask(_refused(fault.code))
            except ProtocolViolation as violation:
                self._connection.drop(violation)
                raise
            else:
                self._chunk_size.note_answer(chunk.request.count)
                return unknown


async def _refused(code: int) -> NoReturn:
    raise ua.UaStatusCodeError(code)
