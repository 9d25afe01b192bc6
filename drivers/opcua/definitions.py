"""What a server's structures are made of, asked for when the first value of a type comes (OPC 10000-3, 5.8.3).

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary

from drivers.opcua.connection import Connection, ServiceRefused
from drivers.opcua.structure import Form, Structure, StructureField
from drivers.opcua.views import attributes, good_value
from drivers.opcua.walk import DIAGNOSTIC_INFO, VARIANT
from edge.errors import ProtocolViolation

_TYPES = 1000  # Of one server; no plan needs as many.
_DEPTH = 16
_ENUMERATION, _INT32, _NUMBER_TYPES = 29, 6, frozenset({26, 27, 28})


class Definitions:
    """The types of structures of one session.

    Attributes:
        known: by the NodeId of their encoding as it is on the wire; None where the server does not tell.
    """

    def __init__(self, connection: Connection) -> None:
        self.known: dict[bytes, Structure | None] = {}
        self._connection = connection
        self._types: dict[Any, int | Structure | None] = {}

    async def learn(self, encoding: bytes) -> None:
        """Ask what an encoding stands for. Raises as `Connection.ask`."""
        if len(self.known) >= _TYPES:
            raise ProtocolViolation(f"{self._connection.name}: types of structures", f"<= {_TYPES}", "another one")
        self.known[encoding] = None
        data_type = await self._parent(nodeid_from_binary(Buffer(encoding)), ua.ObjectIds.HasEncoding)
        kind = None if data_type is None else await self._type(data_type, 0)
        if isinstance(kind, Structure):
            self.known[encoding] = kind

    async def _type(self, data_type: Any, depth: int) -> int | Structure | None:
        """The built-in type, by number, or the structure that a DataType is; None for what cannot be read."""
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
        definition = await self._definition(data_type)
        if isinstance(definition, ua.StructureDefinition):
            return await self._structure(data_type, definition, depth)
        base = await self._parent(data_type, ua.ObjectIds.HasSubtype)
        return None if base is None else await self._type(base, depth + 1)

    async def _structure(self, data_type: Any, definition: Any, depth: int) -> Structure | None:
        if definition.StructureType.value not in tuple(Form):
            return None
        structure = Structure(str(data_type.Identifier), Form(definition.StructureType.value))
        self._types[data_type] = structure  # Before its members: it can hold others of its own type.
        for member in definition.Fields or ():
            kind = await self._type(member.DataType, depth + 1) if member.ValueRank in (-1, 1) else None
            is_array, is_optional = member.ValueRank == 1, bool(member.IsOptional)
            structure.fields.append(StructureField(str(member.Name), kind, is_array, is_optional))
        return structure

    async def _definition(self, data_type: Any) -> Any:
        (answer,) = await attributes(self._connection, [(data_type, ua.AttributeIds.DataTypeDefinition)])
        return good_value(answer)

    async def _parent(self, node: Any, reference: int) -> Any:
        """The one node that has this reference to a node, or None."""
        asked = ua.BrowseDescription(
            NodeId=node,
            BrowseDirection=ua.BrowseDirection.Inverse,
            ReferenceTypeId=ua.NodeId(ua.Int32(reference)),
            IncludeSubtypes=False,
            NodeClassMask=0,
            ResultMask=0,
        )
        parameters = ua.BrowseParameters(RequestedMaxReferencesPerNode=1, NodesToBrowse=[asked])
        try:
            (result,) = await self._connection.results("parents", ua.BrowseRequest(Parameters=parameters), 1)
        except ServiceRefused:
            return None
        if not result.References:
            return None
        target = result.References[0].NodeId
        return ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
