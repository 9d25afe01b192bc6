"""References and attributes of nodes, asked for in as few requests as the server takes.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import ua

from drivers.opcua.connection import Connection, ServiceRefused

NODES_AT_ONCE = 100
REFERENCES_LIMIT = 2000
_REFERENCES_AT_ONCE = 250
_TOO_LARGE = frozenset({ua.StatusCodes.BadResponseTooLarge, ua.StatusCodes.BadEncodingLimitsExceeded,
                        ua.StatusCodes.BadTcpMessageTooLarge})  # fmt: skip


async def references(
    connection: Connection, nodes: Sequence[Any], *, kind: int = ua.ObjectIds.HierarchicalReferences
) -> list[tuple[Any, list[Any]]]:
    """For each node, (status of browsing it, up to REFERENCES_LIMIT references from it). Raises as `Connection.ask`."""
    size = min(filter(None, (NODES_AT_ONCE, connection.operation_limits.nodes_per_browse)))
    found: list[tuple[Any, list[Any]]] = []
    for first in range(0, len(nodes), size):
        found += await _references_of(connection, nodes[first : first + size], kind)
    return found


async def _references_of(connection: Connection, nodes: Sequence[Any], kind: int) -> list[tuple[Any, list[Any]]]:
    """The same in one request, or in several where an answer gets too long."""
    try:
        return await _references_at_once(connection, nodes, kind)
    except ServiceRefused as refused:
        if refused.code not in _TOO_LARGE:
            raise
        if len(nodes) == 1:
            return [(ua.StatusCode(ua.UInt32(refused.code)), [])]
    half = len(nodes) // 2
    first = await _references_of(connection, nodes[:half], kind)
    return first + await _references_of(connection, nodes[half:], kind)


async def _references_at_once(connection: Connection, nodes: Sequence[Any], kind: int) -> list[tuple[Any, list[Any]]]:
    asked = ua.BrowseParameters()
    asked.RequestedMaxReferencesPerNode = _REFERENCES_AT_ONCE
    asked.NodesToBrowse = [_description(node, kind) for node in nodes]
    answers = await connection.results("browse results", ua.BrowseRequest(Parameters=asked), len(nodes))
    found = []
    for answer in answers:
        held = list(answer.References or ())
        point = answer.ContinuationPoint
        while point and len(held) < REFERENCES_LIMIT:
            (more,) = await _continue(connection, [point], is_over=False)
            if not more.References:
                point = None
            else:
                held += more.References
                point = more.ContinuationPoint
        if point:
            await _continue(connection, [point], is_over=True)
        found.append((answer.StatusCode, held[:REFERENCES_LIMIT]))
    return found


async def _continue(connection: Connection, points: list[bytes], *, is_over: bool) -> list[Any]:
    """Go on where an answer was cut, or have the server forget the place (OPC 10000-4 5.9.3)."""
    asked = ua.BrowseNextParameters()
    asked.ReleaseContinuationPoints, asked.ContinuationPoints = is_over, points
    request = ua.BrowseNextRequest(Parameters=asked)
    if is_over:
        await connection.request(request)  # What is answered then, servers do not agree on.
        return []
    return await connection.results("browse results", request, len(points))


async def attributes(connection: Connection, wanted: Sequence[tuple[Any, int]]) -> list[Any]:
    """A DataValue for each (node, attribute). Raises as `Connection.ask`."""
    size = min(filter(None, (NODES_AT_ONCE, connection.operation_limits.nodes_per_read)))
    values: list[Any] = []
    for first in range(0, len(wanted), size):
        values += await _attributes_of(connection, wanted[first : first + size])
    return values


async def _attributes_of(connection: Connection, wanted: Sequence[tuple[Any, int]]) -> list[Any]:
    """The same in one request, or in several where an answer gets too long."""
    asked = ua.ReadParameters()
    asked.TimestampsToReturn = ua.TimestampsToReturn.Neither
    asked.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in wanted]
    try:
        return await connection.results("values", ua.ReadRequest(Parameters=asked), len(wanted))
    except ServiceRefused as refused:
        if refused.code not in _TOO_LARGE:
            raise
        if len(wanted) == 1:
            return [ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(refused.code)))]
    half = len(wanted) // 2
    return await _attributes_of(connection, wanted[:half]) + await _attributes_of(connection, wanted[half:])


def good_value(answer: Any) -> Any:
    """What a DataValue holds, None where it is bad or empty."""
    if answer.Value is None or (answer.StatusCode is not None and not answer.StatusCode.is_good()):
        return None
    return answer.Value.Value


def text_of(value: Any, limit: int = 1000) -> str:
    """A text or LocalizedText of the server, printable; empty for anything else."""
    text = value.Text if isinstance(value, ua.LocalizedText) else value
    return "".join(letter for letter in text[:limit] if letter.isprintable()) if isinstance(text, str) else ""


def _description(node: Any, kind: int) -> Any:
    asked = ua.BrowseDescription()
    asked.NodeId, asked.ReferenceTypeId = node, ua.NodeId(ua.Int32(kind))
    asked.BrowseDirection, asked.IncludeSubtypes = ua.BrowseDirection.Forward, True
    asked.NodeClassMask, asked.ResultMask = 0, ua.BrowseResultMask.All
    return asked
