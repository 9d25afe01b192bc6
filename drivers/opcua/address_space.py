"""A server's address space: references and attributes of nodes, addresses to NodeIds, and definitions of structures.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import IntEnum
from functools import cache
from typing import Any

from asyncua import ua

from drivers.opcua.address import Address, NodeAddress, PathAddress
from drivers.opcua.binary import DIAGNOSTIC_INFO, VARIANT
from drivers.opcua.channel import node_id_of
from drivers.opcua.connection import Connection, ServiceRefused, status_name
from drivers.opcua.datavalue import Form, Structure, StructureField, UnknownStructureError
from drivers.opcua.services import node_id
from edge.driver import pause
from edge.errors import ProtocolViolation

NODES_AT_ONCE = 100
REFERENCES_LIMIT = 2000
_REFERENCES_AT_ONCE = 250
_TOO_LARGE = frozenset({ua.StatusCodes.BadResponseTooLarge, ua.StatusCodes.BadEncodingLimitsExceeded,
                        ua.StatusCodes.BadTcpMessageTooLarge})  # fmt: skip


async def references(
    connection: Connection, nodes: Sequence[Any], *, kind: int = ua.ObjectIds.HierarchicalReferences
) -> list[tuple[Any, list[Any]]]:
    """For each node, (status, up to REFERENCES_LIMIT references from it). Raises as `Connection.ask`."""
    size = min(filter(None, (NODES_AT_ONCE, connection.operation_limits.nodes_per_browse)))
    found: list[tuple[Any, list[Any]]] = []
    for first in range(0, len(nodes), size):
        await pause()
        found += await _references_of(connection, nodes[first : first + size], kind)
    return found


async def _references_of(connection: Connection, nodes: Sequence[Any], kind: int) -> list[tuple[Any, list[Any]]]:
    """The same in one request, or in several where a response gets too long."""
    try:
        return await _references_at_once(connection, nodes, kind)
    except ServiceRefused as refused:
        if refused.status not in _TOO_LARGE:
            raise
        if len(nodes) == 1:
            return [(ua.StatusCode(ua.UInt32(refused.status)), [])]
    half = len(nodes) // 2
    first = await _references_of(connection, nodes[:half], kind)
    return first + await _references_of(connection, nodes[half:], kind)


async def _references_at_once(connection: Connection, nodes: Sequence[Any], kind: int) -> list[tuple[Any, list[Any]]]:
    request = _browse_request([_description(node, kind) for node in nodes], _REFERENCES_AT_ONCE)
    answers = await connection.results("browse results", request, len(nodes))
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


def _browse_request(nodes: Sequence[Any], limit: int) -> Any:
    """A Browse of the whole address space: the View is null, its timestamp too (OPC 10000-4, 7.44)."""
    # The library puts the current time there, which strict servers answer with BadViewIdUnknown.
    whole = ua.ViewDescription(Timestamp=ua.get_win_epoch())
    return ua.BrowseRequest(Parameters=ua.BrowseParameters(whole, ua.UInt32(limit), list(nodes)))


async def _continue(connection: Connection, points: list[bytes], *, is_over: bool) -> list[Any]:
    """Use continuation points, or release them (OPC 10000-4, 5.9.3)."""
    asked = ua.BrowseNextParameters()
    asked.ReleaseContinuationPoints, asked.ContinuationPoints = is_over, points
    request = ua.BrowseNextRequest(Parameters=asked)
    if is_over:
        await connection.request(request)  # Servers differ in the number of results here.
        return []
    return await connection.results("browse results", request, len(points))


async def attributes(connection: Connection, wanted: Sequence[tuple[Any, int]]) -> list[Any]:
    """A DataValue for each (node, attribute). Raises as `Connection.ask`."""
    size = min(filter(None, (NODES_AT_ONCE, connection.operation_limits.nodes_per_read)))
    values: list[Any] = []
    for first in range(0, len(wanted), size):
        await pause()
        values += await _attributes_of(connection, wanted[first : first + size])
    return values


async def _attributes_of(connection: Connection, wanted: Sequence[tuple[Any, int]]) -> list[Any]:
    """The same in one request, or in several where a response gets too long."""
    asked = ua.ReadParameters()
    asked.TimestampsToReturn = ua.TimestampsToReturn.Neither
    asked.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in wanted]
    try:
        return await connection.results("values", ua.ReadRequest(Parameters=asked), len(wanted))
    except ServiceRefused as refused:
        if refused.status not in _TOO_LARGE:
            raise
        if len(wanted) == 1:
            return [ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(refused.status)))]
    half = len(wanted) // 2
    return await _attributes_of(connection, wanted[:half]) + await _attributes_of(connection, wanted[half:])


def good_value(answer: Any) -> Any:
    """The value of a DataValue, None where it is bad or empty."""
    if answer.Value is None or (answer.StatusCode is not None and not answer.StatusCode.is_good()):
        return None
    return answer.Value.Value


def printable(value: Any, limit: int = 1000) -> str:
    """A text or LocalizedText of the server, printable; empty for anything else."""
    text = value.Text if isinstance(value, ua.LocalizedText) else value
    return "".join(letter for letter in text[:limit] if letter.isprintable()) if isinstance(text, str) else ""


def _description(node: Any, kind: int) -> Any:
    asked = ua.BrowseDescription()
    asked.NodeId, asked.ReferenceTypeId = node, ua.NodeId(ua.Int32(kind))
    asked.BrowseDirection, asked.IncludeSubtypes = ua.BrowseDirection.Forward, True
    asked.NodeClassMask, asked.ResultMask = 0, ua.BrowseResultMask.All
    return asked


_PATHS_AT_ONCE = 100
_WHOLE_PATH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why an address has no NodeId in this session."""

    sentence: str


Resolved = bytes | Unresolved
"""A NodeId as it is on the wire in this session, or why there is none."""


async def resolve(connection: Connection, addresses: Sequence[Address]) -> list[Resolved]:
    """The NodeId of each address. Raises as `Connection.ask`."""
    resolved = [_resolve_offline(address, connection.namespaces) for address in addresses]
    paths = [number for number, found in enumerate(resolved) if isinstance(found, ua.BrowsePath)]
    for first in range(0, len(paths), _PATHS_AT_ONCE):
        numbers = paths[first : first + _PATHS_AT_ONCE]
        asked = [resolved[number] for number in numbers]
        answers = await translate(connection, asked)
        for number, answer in zip(numbers, answers, strict=True):
            resolved[number] = _target(addresses[number], answer, connection.namespaces)
    return resolved


async def translate(connection: Connection, paths: Sequence[Any]) -> list[Any]:
    """A BrowsePathResult for each BrowsePath. Raises as `Connection.ask`."""
    asked = ua.TranslateBrowsePathsToNodeIdsRequest()
    asked.Parameters.BrowsePaths = list(paths)
    return await connection.results("browse paths", asked, len(paths))


def _resolve_offline(address: Address, namespaces: Sequence[str]) -> Any:
    """The NodeId, or the BrowsePath to translate."""
    uris = [address.namespace] if isinstance(address, NodeAddress) else [uri for uri, _ in address.steps]
    for uri in uris:
        if uri not in namespaces:
            return Unresolved(f"{address}: the server has no namespace {uri}; it has {', '.join(namespaces[1:])}")
    if isinstance(address, PathAddress):
        root = ua.NodeId(ua.Int32(ua.ObjectIds.RootFolder))
        return browse_path(root, [(namespaces.index(uri), name) for uri, name in address.steps])
    return node_id(address.identifier, namespaces.index(address.namespace))


def browse_path(start: Any, names: Iterable[tuple[int, str]]) -> Any:
    """A BrowsePath from a node by names, each with the index of its namespace."""
    elements = [
        ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(ua.Int32(ua.ObjectIds.HierarchicalReferences)),
            IsInverse=False,
            IncludeSubtypes=True,
            TargetName=ua.QualifiedName(name, index),
        )
        for index, name in names
    ]
    return ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(elements))


def _target(address: Address, answer: Any, namespaces: Sequence[str]) -> Resolved:
    targets = {
        target.TargetId for target in answer.Targets or () if target.RemainingPathIndex in (_WHOLE_PATH, None)
    }  # fmt: skip
    if not answer.StatusCode.is_good() or not targets:
        code = answer.StatusCode.value
        why = status_name(code) if code else "it lies in another server"
        return Unresolved(f"{address}: the server finds nothing there ({why})")
    if len(targets) > 1:
        return Unresolved(f"{address}: the server has {len(targets)} nodes there; give the one you mean by its NodeId")
    return _on_wire(address, targets.pop(), namespaces)


def _on_wire(address: Address, target: Any, namespaces: Sequence[str]) -> Resolved:
    index, uri = target.NamespaceIndex, getattr(target, "NamespaceUri", None)
    if getattr(target, "ServerIndex", 0):
        return Unresolved(f"{address}: the node lies in another server")
    if target.Identifier is None:
        return Unresolved(f"{address}: the server leads to a node without an identifier")
    if uri:
        if uri not in namespaces:
            return Unresolved(f"{address}: the server leads to a namespace that it does not have, {uri}")
        index = namespaces.index(uri)
    return node_id(target.Identifier, index)


_TYPES = 1000  # Of one server; far more than a plan needs.
_DEPTH = 16
_ENUMERATION, _INT32, _NUMBER_TYPES = 29, 6, frozenset({26, 27, 28})


class StructureDefinitions:
    """Definitions of structures, requested when the first value of a type comes (OPC 10000-3, 5.8.3).

    Attributes:
        known: see `drivers.opcua.datavalue.Structures`.
    """

    def __init__(self, connection: Connection) -> None:
        self.known: dict[bytes, Structure | dict[Address | None, Structure | None] | None] = {}
        self._connection = connection
        self._types: dict[Any, int | Structure | None] = {}
        self._lock = asyncio.Lock()  # A definition that is half known would be taken for one that is missing.

    async def learn(self, unknown: UnknownStructureError) -> None:
        """Find what a structure is made of. Raises as `Connection.ask`."""
        encoding, address = unknown.encoding, unknown.address
        async with self._lock:
            try:
                if encoding not in self.known:
                    if len(self.known) >= _TYPES:
                        name = self._connection.name
                        raise ProtocolViolation(f"{name}: types of structures", f"<= {_TYPES}", "another one")
                    self.known[encoding] = await self._of_encoding(node_id_of(encoding))
                of_variables = self.known[encoding]
                if isinstance(of_variables, dict) and address not in of_variables:
                    of_variables[address] = await self._of_variable(address)
            except ServiceRefused:
                self.known[encoding] = None

    async def _of_encoding(self, encoding: Any) -> Structure | dict[Address | None, Structure | None] | None:
        if encoding.NamespaceIndex == 0 and (known := _standard_structure(_STANDARD_ENCODINGS, encoding.Identifier)):
            return known
        data_type = await self._parent(encoding, ua.ObjectIds.HasEncoding)
        if data_type is not None:
            return await self._structure_of(data_type)
        # Some servers have no nodes for encodings: their structures name the DataType, or something that is not there.
        return await self._structure_of(encoding) or {}

    async def _of_variable(self, address: Address | None) -> Structure | None:
        """The structure that the variable's DataType is, to be taken only if its length is that of the value."""
        if address is None:
            return None
        (node,) = await resolve(self._connection, [address])
        if isinstance(node, Unresolved):
            return None
        (answer,) = await attributes(self._connection, [(node_id_of(node), ua.AttributeIds.DataType)])
        data_type = good_value(answer)
        structure = await self._structure_of(data_type) if isinstance(data_type, ua.NodeId) else None
        return structure and replace(structure, is_exact=True)

    async def _structure_of(self, data_type: Any) -> Structure | None:
        kind = await self._type(data_type, 0)
        return kind if isinstance(kind, Structure) else None

    async def _type(self, data_type: Any, depth: int) -> int | Structure | None:
        """The built-in type, by number, or the structure of a DataType; None for one that cannot be read."""
        if data_type not in self._types:
            self._types[data_type] = None
            if depth < _DEPTH and len(self._types) < _TYPES:
                self._types[data_type] = await self._ask_type(data_type, depth)
        return self._types[data_type]

    async def _ask_type(self, data_type: Any, depth: int) -> int | Structure | None:
        if data_type.NamespaceIndex == 0 and isinstance(data_type.Identifier, int):
            number = data_type.Identifier
            if 0 < number <= DIAGNOSTIC_INFO:
                return number
            if number == _ENUMERATION:
                return _INT32
            if number in _NUMBER_TYPES:
                return VARIANT
            if (known := _standard_structure(_STANDARD_TYPES, number)) is not None:
                return known
        definition = await self._definition(data_type)
        if isinstance(definition, ua.StructureDefinition):
            return await self._structure(data_type, definition, depth)
        base = await self._parent(data_type, ua.ObjectIds.HasSubtype)
        return None if base is None else await self._type(base, depth + 1)

    async def _structure(self, data_type: Any, definition: Any, depth: int) -> Structure | None:
        if definition.StructureType.value not in tuple(Form):
            return None
        structure = Structure(str(data_type.Identifier), Form(definition.StructureType.value))
        self._types[data_type] = structure  # Before its members, which may be of the same type.
        for member in definition.Fields or ():
            kind = await self._type(member.DataType, depth + 1) if member.ValueRank in (-1, 1) else None
            is_array, is_optional = member.ValueRank == 1, bool(member.IsOptional)
            structure.fields.append(StructureField(str(member.Name), kind, is_array, is_optional))
        return structure

    async def _definition(self, data_type: Any) -> Any:
        (answer,) = await attributes(self._connection, [(data_type, ua.AttributeIds.DataTypeDefinition)])
        return good_value(answer)

    async def _parent(self, node: Any, reference: int) -> Any:
        """The node that has this reference to a node, or None."""
        asked = ua.BrowseDescription(
            NodeId=node,
            BrowseDirection=ua.BrowseDirection.Inverse,
            ReferenceTypeId=ua.NodeId(ua.Int32(reference)),
            IncludeSubtypes=False,
            NodeClassMask=0,
            ResultMask=0,
        )
        try:
            (result,) = await self._connection.results("parents", _browse_request([asked], 1), 1)
        except ServiceRefused:
            return None
        if not result.References:
            return None
        target = result.References[0].NodeId
        return ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)


_STANDARD_ENCODINGS = {
    encoding.Identifier: kind
    for encoding, kind in ua.extension_objects_by_typeid.items()
    if not encoding.NamespaceIndex
}
_STANDARD_TYPES = {
    kind.data_type.Identifier: kind for kind in _STANDARD_ENCODINGS.values() if hasattr(kind, "data_type")
}


def _standard_structure(kinds: Mapping[int, Any], number: Any) -> Structure | None:
    """A structure of namespace 0, such as Range or EUInformation, which many servers do not define."""
    return _structure_of_class(kinds[number]) if number in kinds else None


@cache
def _structure_of_class(kind: Any) -> Structure | None:
    """The structure that a class of the library stands for; None where not all of its members are plain."""
    members = []
    for member in fields(kind):
        written = str(member.type).strip("'")
        is_array, name = written.startswith("list["), written.removeprefix("list[").removesuffix("]")
        found = _kind_of_class(getattr(ua, name.removeprefix("ua."), None)) if name.startswith("ua.") else None
        if found is None:
            return None
        members.append(StructureField(member.name, found, is_array))
    return Structure(kind.__name__, fields=members)


def _kind_of_class(kind: Any) -> int | Structure | None:
    if not isinstance(kind, type):
        return None
    if kind.__name__ in ua.VariantType.__members__:
        return int(ua.VariantType[kind.__name__])
    if issubclass(kind, IntEnum):
        return _INT32
    return _structure_of_class(kind) if is_dataclass(kind) else None
