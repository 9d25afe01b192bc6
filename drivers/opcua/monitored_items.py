"""Monitored items of a subscription (OPC 10000-4, 5.12.2): one for each node, as far as the server makes them.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.opcua.address_space import Unresolved, resolve
from drivers.opcua.connection import Connection, ServiceRefused, status_name
from drivers.opcua.plan import SubscriptionPlan
from drivers.opcua.services import (
    CREATE_MONITORED_ITEMS,
    ChunkSize,
    ItemRequest,
    ItemResult,
    ServiceFaultError,
    ServiceRequest,
    create_items,
    read_items,
)
from edge.model import StatusCode

_ITEMS_AT_ONCE = 500
_FILTER_REFUSED = frozenset({0x80430000, 0x80440000, 0x80450000, 0x808E0000})
"""BadMonitoredItemFilterInvalid, BadMonitoredItemFilterUnsupported, BadFilterNotAllowed, BadDeadbandFilterInvalid."""
TOO_MANY_ITEMS = 0x80DB0000
"""BadTooManyMonitoredItems."""
_POLLING_HELPS = frozenset({TOO_MANY_ITEMS, 0x80770000, 0x80030000, 0x80040000, 0x800B0000, 0x803D0000, 0x80400000})
"""That, BadTooManySubscriptions, BadOutOfMemory, BadResourceUnavailable, BadServiceUnsupported, BadNotSupported and
BadNotImplemented."""
_TOO_MUCH = frozenset({0x80080000, 0x80100000, 0x80B80000, 0x80B90000})
"""BadEncodingLimitsExceeded, BadTooManyOperations, BadRequestTooLarge, BadResponseTooLarge."""
_NAMES_SHOWN = 20


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
        """Create items for these nodes of the plan. Raises as `Connection.ask`.

        A server that refuses a whole request because of its limit gets the items in smaller ones, up to the limit.
        """
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
        first, at_once = 0, _ITEMS_AT_ONCE
        while first < len(requested):
            allowed = self._connection.operation_limits.monitored_items_per_call
            chunk = requested[first : first + self._chunk_size.within(at_once, allowed)]
            request = ServiceRequest(CREATE_MONITORED_ITEMS, self._connection.token, create_items(subscription, chunk))
            handle, data = await self._connection.exchange(request)
            try:
                results = read_items(data, handle, len(chunk))
            except ServiceFaultError as fault:
                if fault.code in _TOO_MUCH and self._chunk_size.halve(len(chunk)):
                    continue
                if fault.code == TOO_MANY_ITEMS and len(chunk) > 1:
                    at_once = len(chunk) // 2
                    continue
                if fault.code == TOO_MANY_ITEMS:
                    return created | {item.handle: ItemResult(fault.code, 0.0, 0) for item in requested[first:]}
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


def refusals(plan: SubscriptionPlan, failed: Mapping[int, int]) -> list[str]:
    """What the server says of the nodes that it does not watch, by status, and what helps."""
    sentences = []
    for code in sorted(set(failed.values()) - {int(StatusCode.BAD_ADDRESS)}):
        numbers = [number for number, status in failed.items() if status == code]
        names = [selector.name for number in numbers for selector in plan.nodes[number].selectors]
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        remedy = "; poll them: move them to a scan group without `subscribe`" if code in _POLLING_HELPS else ""
        sentences.append(f"the server does not watch {len(names)} tags ({shown}): {status_name(code)}{remedy}")
    return sentences
