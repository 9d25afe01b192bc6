"""What a server knows about its variables: description, unit, range and texts (OPC 10000-8 5.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary

from drivers.opcua.connection import Connection
from drivers.opcua.plan import OpcuaPlan
from drivers.opcua.resolve import resolve
from drivers.opcua.units import ucum
from drivers.opcua.views import NODES_AT_ONCE, attributes, good_value, references, text_of
from drivers.opcua.watch import WatchPlan
from edge.model import TagMetadata

_PROPERTIES = frozenset({"EURange", "EngineeringUnits", "EnumStrings", "EnumValues", "TrueState", "FalseState"})
_ATTRIBUTES = (ua.AttributeIds.DisplayName, ua.AttributeIds.Description, ua.AttributeIds.DataType)
_LAST_BUILT_IN = 28
_TEXTS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about one node.

    Attributes:
        data_type: NodeId of its type, None where it has none.
        is_parent: whether something other than a property is below it.
    """

    facts: TagMetadata
    data_type: Any
    is_parent: bool


async def read_facts(connection: Connection, plan: OpcuaPlan | WatchPlan) -> list[TagMetadata]:
    """What the server says about each tag of a plan; nothing about a node that it does not have."""
    facts = [TagMetadata()] * len(plan.layout)
    for first in range(0, len(plan.nodes), NODES_AT_ONCE):  # Other devices have their turn between them.
        nodes = plan.nodes[first : first + NODES_AT_ONCE]
        resolved = await resolve(connection, [node.address for node in nodes])
        there = [(node, found) for node, found in zip(nodes, resolved, strict=True) if isinstance(found, bytes)]
        known = await describe(connection, [nodeid_from_binary(Buffer(found)) for _, found in there])
        for (node, _), about in zip(there, known, strict=True):
            for want in node.wants:
                whole = about.facts
                # Unit and range of a structure are not those of its members.
                facts[want.tag] = TagMetadata(description=whole.description) if want.members else whole
    return facts


async def describe(connection: Connection, nodes: Sequence[Any]) -> list[Known]:
    """Description, unit, range and texts of variables. Raises as `Connection.ask`."""
    if not nodes:
        return []
    below = await references(connection, nodes)
    values = [good_value(one) for one in await attributes(connection, [(n, a) for n in nodes for a in _ATTRIBUTES])]
    names, descriptions, types = values[0::3], values[1::3], values[2::3]
    properties = await _properties(connection, [held for _, held in below])
    of_types = await _texts_of_types(connection, [kind for kind in types if _is_custom(kind)])
    return [
        Known(_facts(_description(said, name), found, of_types.get(kind, ())), kind, _is_parent(held))
        for name, said, kind, found, (_, held) in zip(names, descriptions, types, properties, below, strict=True)
    ]


def _description(said: Any, name: Any) -> str:
    """Some servers describe everything by its name: that is none."""
    text = text_of(said)
    return "" if text == text_of(name) else text


async def _properties(connection: Connection, below: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """For each node, the values of those properties that say something to us."""
    places = [
        (number, one.BrowseName.Name, one.NodeId)
        for number, held in enumerate(below)
        for one in held
        if one.BrowseName.NamespaceIndex == 0 and one.BrowseName.Name in _PROPERTIES
    ]
    values = await attributes(connection, [(node, ua.AttributeIds.Value) for _, _, node in places])
    found: list[dict[str, Any]] = [{} for _ in below]
    for (number, name, _), value in zip(places, values, strict=True):
        found[number][name] = good_value(value)
    return found


async def _texts_of_types(connection: Connection, types: Sequence[Any]) -> Mapping[Any, tuple[tuple[int, str], ...]]:
    """The texts of enumerations: properties of the type (OPC 10000-3 8.40), or in its EnumDefinition."""
    kinds = list(dict.fromkeys(types))
    if not kinds:
        return {}
    below = await references(connection, kinds, kind=ua.ObjectIds.HasProperty)
    properties = await _properties(connection, [held for _, held in below])
    texts = {kind: _texts(found) for kind, found in zip(kinds, properties, strict=True)}
    silent = [kind for kind, said in texts.items() if not said]
    definitions = await attributes(connection, [(kind, ua.AttributeIds.DataTypeDefinition) for kind in silent])
    return texts | {kind: _defined(good_value(one)) for kind, one in zip(silent, definitions, strict=True)}


def _facts(description: str, found: Mapping[str, Any], texts: tuple[tuple[int, str], ...]) -> TagMetadata:
    units, between = found.get("EngineeringUnits"), found.get("EURange")
    unit = ""
    if isinstance(units, ua.EUInformation):
        unit = ucum(units.NamespaceUri or "", units.UnitId or 0, text_of(units.DisplayName))
    span = None
    if isinstance(between, ua.Range) and all(map(math.isfinite, (between.Low, between.High))):
        span = (float(between.Low), float(between.High)) if between.Low < between.High else None
    return TagMetadata(unit=unit, range=span, description=description, texts=_texts(found) or texts)


def _texts(found: Mapping[str, Any]) -> tuple[tuple[int, str], ...]:
    strings, values = found.get("EnumStrings"), found.get("EnumValues")
    if isinstance(values, list) and all(isinstance(one, ua.EnumValueType) for one in values):
        return tuple((int(one.Value), text_of(one.DisplayName)) for one in values[:_TEXTS_LIMIT])
    if isinstance(strings, list):
        return tuple((number, text_of(text)) for number, text in enumerate(strings[:_TEXTS_LIMIT]))
    if "TrueState" in found or "FalseState" in found:
        return ((0, text_of(found.get("FalseState"))), (1, text_of(found.get("TrueState"))))
    return ()


def _defined(definition: Any) -> tuple[tuple[int, str], ...]:
    if not isinstance(definition, ua.EnumDefinition):
        return ()
    fields = (definition.Fields or [])[:_TEXTS_LIMIT]
    return tuple((int(one.Value), text_of(one.DisplayName) or one.Name or "") for one in fields)


def _is_custom(data_type: Any) -> bool:
    """Whether a type has a description of its own on the server."""
    if not isinstance(data_type, ua.NodeId):
        return False
    number = data_type.Identifier
    return data_type.NamespaceIndex != 0 or not isinstance(number, int) or number > _LAST_BUILT_IN


def _is_parent(references_: Sequence[Any]) -> bool:
    return any(one.ReferenceTypeId != ua.NodeId(ua.Int32(ua.ObjectIds.HasProperty)) for one in references_)
