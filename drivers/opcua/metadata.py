"""What a server says about itself and its variables: identity, units, ranges, descriptions and enumerations' texts.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from drivers.opcua.address_space import (
    NODES_AT_ONCE,
    attributes,
    browse_path,
    good_value,
    printable,
    references,
    resolve,
    translate,
)
from drivers.opcua.channel import node_id_of
from drivers.opcua.connection import Connection, ServiceRefused
from drivers.opcua.plan import OpcuaPlan, SubscriptionPlan
from edge.model import Identity, TagMetadata

NAMESPACE = "http://www.opcfoundation.org/UA/units/un/cefact"

_UCUM = {
    "CEL": "Cel", "FAH": "[degF]", "KEL": "K",
    "BAR": "bar", "MBR": "mbar", "PAL": "Pa", "A97": "hPa", "KPA": "kPa", "MPA": "MPa", "PS": "[psi]",
    "P1": "%", "59": "[ppm]", "61": "[ppb]", "Q30": "[pH]", "C62": "1",
    "MTR": "m", "DMT": "dm", "CMT": "cm", "MMT": "mm", "4H": "um", "KMT": "km", "INH": "[in_i]", "FOT": "[ft_i]",
    "MTK": "m2", "CMK": "cm2", "MTQ": "m3", "LTR": "L", "HLT": "hL", "DLT": "dL", "CLT": "cL", "MLT": "mL",
    "KGM": "kg", "GRM": "g", "MGM": "mg", "MC": "ug", "TNE": "t", "LBR": "[lb_av]",
    "SEC": "s", "C26": "ms", "B98": "us", "MIN": "min", "HUR": "h", "DAY": "d", "WEE": "wk",
    "RPM": "/min", "RPS": "/s", "HTZ": "Hz", "KHZ": "kHz", "MHZ": "MHz",
    "AMP": "A", "4K": "mA", "B84": "uA", "VLT": "V", "2Z": "mV", "KVT": "kV", "OHM": "Ohm", "B49": "kOhm",
    "WTT": "W", "KWT": "kW", "MAW": "MW", "D46": "V.A", "KVA": "kV.A", "WHR": "W.h", "KWH": "kW.h", "MWH": "MW.h",
    "JOU": "J", "KJO": "kJ", "3B": "MJ", "NEW": "N", "B47": "kN", "NU": "N.m", "FAR": "F", "4O": "uF",
    "MTS": "m/s", "2M": "cm/s", "C16": "mm/s", "KMH": "km/h", "2X": "m/min", "MSK": "m/s2",
    "MQH": "m3/h", "MQS": "m3/s", "E32": "L/h", "L2": "L/min", "G51": "L/s", "41": "mL/min",
    "KGS": "kg/s", "F31": "kg/min", "E93": "kg/h", "GL": "g/L", "M1": "mg/L", "KMQ": "kg/m3", "23": "g/cm3",
    "C34": "mol", "C36": "mol/dm3", "C35": "mol/m3", "C24": "mPa.s", "C65": "Pa.s", "4C": "cSt",
    "D10": "S/m", "H61": "mS/cm", "G42": "uS/cm", "LUX": "lx", "CDL": "cd", "DD": "deg", "C81": "rad", "2N": "dB",
    "D33": "T", "BQL": "Bq",
}  # fmt: skip


def ucum(namespace: str, unit_id: int, display_name: str) -> str:
    """A unit in UCUM if its UNECE code is known here (OPC 10000-8, 5.6.4.3), else its display name."""
    if namespace == NAMESPACE and (code := _code(unit_id)) in _UCUM:
        return _UCUM[code]
    return "".join(letter for letter in display_name[:100] if letter.isprintable())


def _code(unit_id: int) -> str:
    """The UNECE code that is packed into a UnitId."""
    if not 0 < unit_id < 1 << 24:
        return ""
    return unit_id.to_bytes(3).lstrip(b"\0").decode("latin-1")


_PROPERTIES = frozenset({"EURange", "EngineeringUnits", "EnumStrings", "EnumValues", "TrueState", "FalseState"})
_ATTRIBUTES = (ua.AttributeIds.DisplayName, ua.AttributeIds.Description, ua.AttributeIds.DataType,
               ua.AttributeIds.ValueRank)  # fmt: skip
_LAST_BUILT_IN = 28
_TEXTS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class NodeMetadata:
    """Metadata of one variable.

    Attributes:
        data_type: NodeId of its type, None where it has none.
        is_array: whether its value has elements always.
        is_parent: whether something other than a property is below it.
    """

    metadata: TagMetadata
    data_type: Any
    is_array: bool
    is_parent: bool


async def read_tag_metadata(connection: Connection, plan: OpcuaPlan | SubscriptionPlan) -> list[TagMetadata]:
    """Metadata of each tag of a plan; empty for a node that the server does not have."""
    metadata = [TagMetadata()] * len(plan.layout)
    for first in range(0, len(plan.nodes), NODES_AT_ONCE):  # In chunks, so that other devices' scans are not delayed.
        nodes = plan.nodes[first : first + NODES_AT_ONCE]
        resolved = await resolve(connection, [node.address for node in nodes])
        there = [(node, found) for node, found in zip(nodes, resolved, strict=True) if isinstance(found, bytes)]
        known = await describe(connection, [node_id_of(found) for _, found in there])
        for (node, _), about in zip(there, known, strict=True):
            for selector in node.selectors:
                whole = about.metadata
                # Unit and range of a structure are not those of its members.
                metadata[selector.tag] = TagMetadata(description=whole.description) if selector.members else whole
    return metadata


async def describe(connection: Connection, nodes: Sequence[Any]) -> list[NodeMetadata]:
    """Description, unit, range and texts of variables. Raises as `Connection.ask`."""
    if not nodes:
        return []
    below = await references(connection, nodes)
    values = [good_value(one) for one in await attributes(connection, [(n, a) for n in nodes for a in _ATTRIBUTES])]
    names, descriptions, types, ranks = (values[first :: len(_ATTRIBUTES)] for first in range(len(_ATTRIBUTES)))
    properties = await _properties(connection, [held for _, held in below])
    of_types = await _texts_of_types(connection, [kind for kind in types if _is_custom(kind)])
    return [
        NodeMetadata(
            _tag_metadata(_description(said, name), found, of_types.get(kind, ())),
            kind,
            isinstance(rank, int) and rank >= 0,
            _is_parent(held),
        )
        for name, said, kind, rank, found, (_, held) in zip(
            names, descriptions, types, ranks, properties, below, strict=True
        )
    ]


def _description(said: Any, name: Any) -> str:
    """The description, empty where it only repeats the name, as some servers do."""
    text = printable(said)
    return "" if text == printable(name) else text


async def _properties(connection: Connection, below: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """For each node, the values of the properties in _PROPERTIES."""
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
    """The texts of enumerations: properties of the type (OPC 10000-3, 8.40), or in its EnumDefinition."""
    kinds = list(dict.fromkeys(types))
    if not kinds:
        return {}
    below = await references(connection, kinds, kind=ua.ObjectIds.HasProperty)
    properties = await _properties(connection, [held for _, held in below])
    texts = {kind: _texts(found) for kind, found in zip(kinds, properties, strict=True)}
    silent = [kind for kind, said in texts.items() if not said]
    definitions = await attributes(connection, [(kind, ua.AttributeIds.DataTypeDefinition) for kind in silent])
    return texts | {kind: _defined(good_value(one)) for kind, one in zip(silent, definitions, strict=True)}


def _tag_metadata(description: str, found: Mapping[str, Any], texts: tuple[tuple[int, str], ...]) -> TagMetadata:
    units, between = found.get("EngineeringUnits"), found.get("EURange")
    unit = ""
    if isinstance(units, ua.EUInformation):
        unit = ucum(units.NamespaceUri or "", units.UnitId or 0, printable(units.DisplayName))
    span = None
    if isinstance(between, ua.Range) and all(map(math.isfinite, (between.Low, between.High))):
        span = (float(between.Low), float(between.High)) if between.Low < between.High else None
    return TagMetadata(unit=unit, range=span, description=description, texts=_texts(found) or texts)


def _texts(found: Mapping[str, Any]) -> tuple[tuple[int, str], ...]:
    strings, values = found.get("EnumStrings"), found.get("EnumValues")
    if isinstance(values, list) and all(isinstance(one, ua.EnumValueType) for one in values):
        return tuple((int(one.Value), printable(one.DisplayName)) for one in values[:_TEXTS_LIMIT])
    if isinstance(strings, list):
        return tuple((number, printable(text)) for number, text in enumerate(strings[:_TEXTS_LIMIT]))
    if "TrueState" in found or "FalseState" in found:
        return ((0, printable(found.get("FalseState"))), (1, printable(found.get("TrueState"))))
    return ()


def _defined(definition: Any) -> tuple[tuple[int, str], ...]:
    if not isinstance(definition, ua.EnumDefinition):
        return ()
    fields = (definition.Fields or [])[:_TEXTS_LIMIT]
    return tuple((int(one.Value), printable(one.DisplayName) or one.Name or "") for one in fields)


def _is_custom(data_type: Any) -> bool:
    """Whether a DataType is not a built-in one."""
    if not isinstance(data_type, ua.NodeId):
        return False
    number = data_type.Identifier
    return data_type.NamespaceIndex != 0 or not isinstance(number, int) or number > _LAST_BUILT_IN


def _is_parent(references_: Sequence[Any]) -> bool:
    return any(one.ReferenceTypeId != ua.NodeId(ua.Int32(ua.ObjectIds.HasProperty)) for one in references_)


_DEVICES = "http://opcfoundation.org/UA/DI/"
_DEVICE_SET = 5001
_DEVICES_LIMIT = 20
_names = ua.ObjectIds
_BUILD_INFO = (
    _names.Server_ServerStatus_BuildInfo_ManufacturerName,
    _names.Server_ServerStatus_BuildInfo_ProductName,
    _names.Server_ServerStatus_BuildInfo_SoftwareVersion,
    _names.Server_ServerStatus_BuildInfo_BuildNumber,
    _names.Server_ServerStatus_BuildInfo_ProductUri,
)


async def read_identity(connection: Connection) -> Identity:
    """BuildInfo of the server (OPC 10000-5, 12.4), and the serial number of the one device behind it (OPC 10000-100).

    Empty where the server has none. Raises as `Connection.ask`.
    """
    nodes = [(ua.NodeId(ua.Int32(number)), ua.AttributeIds.Value) for number in _BUILD_INFO]
    try:
        answers = await attributes(connection, nodes)
        serials = await _serials(connection)
    except ServiceRefused:
        return Identity()  # A refused identity must not end the session.
    vendor, product, firmware, build, product_uri = (printable(good_value(answer), 200) for answer in answers)
    more = {
        "build": build,
        "product URI": product_uri,
        "application URI": connection.application_uri,
        "endpoint": connection.host_note,
    }
    if len(serials) > 1:
        more |= {f"serial of {name}": serial for name, serial in serials.items()}
    return Identity(
        vendor=vendor,
        product=product,
        firmware=firmware,
        serial=next(iter(serials.values())) if len(serials) == 1 else "",
        more=tuple((label, text) for label, text in more.items() if text),
    )


async def _serials(connection: Connection) -> dict[str, str]:
    """Serial numbers by the names of the devices in the DeviceSet; empty where there is none."""
    if _DEVICES not in connection.namespaces:
        return {}
    index = connection.namespaces.index(_DEVICES)
    ((_, found),) = await references(connection, [ua.NodeId(ua.Int32(_DEVICE_SET), ua.Int16(index))])
    devices = [one for one in found if one.NodeClass == ua.NodeClass.Object][:_DEVICES_LIMIT]
    if not devices:
        return {}
    paths = [browse_path(one.NodeId, [(index, "SerialNumber")]) for one in devices]
    answers = await translate(connection, paths)
    places = {
        printable(one.DisplayName, 200): answer.Targets[0].TargetId
        for one, answer in zip(devices, answers, strict=True)
        if answer.StatusCode.is_good() and answer.Targets
    }
    values: list[Any] = await attributes(connection, [(node, ua.AttributeIds.Value) for node in places.values()])
    serials = {name: printable(good_value(value), 200) for name, value in zip(places, values, strict=True)}
    return {name: serial for name, serial in serials.items() if serial}
