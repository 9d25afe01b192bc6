"""The monitored items of one subscription: made in chunks, those that failed again later, what was revised said once.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.opcua.answer import ServiceFaultError
from drivers.opcua.channel import Channel
from drivers.opcua.connection import Connection, ServiceRefused, status_name
from drivers.opcua.request import ChunkSize
from drivers.opcua.resolve import Unresolved, resolve
from drivers.opcua.services import CREATE_MONITORED_ITEMS, ServiceRequest
from drivers.opcua.subscribing import ItemMade, ItemWanted, create_items, read_items
from drivers.opcua.watch import WatchPlan
from edge.model import StatusCode

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

    def __init__(self, connection: Connection, channel: Channel, plan: WatchPlan, chunk: ChunkSize) -> None:
        self._connection, self._channel, self._plan, self._chunk = connection, channel, plan, chunk

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
        wanted.sort(key=lambda item: plan.nodes[item.handle].wants[0].type)
        made = await self._make_all(subscription, wanted)
        unfiltered = [
            ItemWanted(item.handle, item.node_id, item.sampling_ms, item.queue, 0.0)
            for item in wanted
            if item.deadband and made[item.handle].status in _FILTER_REFUSED
        ]
        if unfiltered:
            names = ", ".join(plan.nodes[item.handle].wants[0].name for item in unfiltered[:20])
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
            chunk = wanted[first : first + self._chunk.within(_ITEMS_AT_ONCE, allowed)]
            request = ServiceRequest(CREATE_MONITORED_ITEMS, self._channel.token, create_items(subscription, chunk))
            handle, data = await self._channel.carry(request)
            try:
                answers = read_items(data, handle, len(chunk))
            except ServiceFaultError as fault:
                if fault.code in _TOO_MUCH and self._chunk.halve(len(chunk)):
                    continue
                refused = f"{self._connection.name} watches no nodes for us: {status_name(fault.code)}"
                raise ServiceRefused(refused, fault.code) from fault
            made |= {item.handle: answer for item, answer in zip(chunk, answers, strict=True)}
            first += len(chunk)
        return made


def _revised(plan: WatchPlan, made: Mapping[int, ItemMade]) -> list[str]:
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
