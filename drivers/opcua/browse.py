"""Browsing for a configuration: the nodes below a node."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice, product
from math import prod
from typing import Any

from asyncua import ua

from drivers.opcua.address import Kind, NodeAddress, parse_address
from drivers.opcua.address_space import NODES_AT_ONCE, REFERENCES_LIMIT, attributes, printable, references, resolve
from drivers.opcua.channel import node_id_of
from drivers.opcua.connection import (
    Connection,
    status_name,
)
from drivers.opcua.metadata import NodeMetadata, describe
from drivers.opcua.settings import TAG_TYPES, TYPES, OpcuaDevice
from edge.driver import BrowseEntry
from edge.model import TagMetadata

_BUILT_IN: dict[int, str] = {kind.value: kind.name for kind in ua.VariantType}
_KINDS: dict[int, Kind] = {0: "i", 1: "i", 2: "i", 3: "s", 4: "g", 5: "b"}
_TEXT_SHOWN = 100
_ELEMENTS, _ELEMENTS_SHOWN = 1000, 4
_TEXT_BYTES, _TEXT_BYTES_LIMIT = 1000, 4000  # Of a tag: the default and most of `length`.
_LEAVES = (ua.NodeClass.Method, ua.NodeClass.ReferenceType, ua.NodeClass.DataType)


async def browse(connection: Connection, device: OpcuaDevice, path: str) -> list[BrowseEntry]:
    """The nodes right below an address, the Objects folder for "". Raises as `edge.driver.Browsable.browse`."""
    node = await _node(connection, device, path) if path else ua.NodeId(ua.Int32(ua.ObjectIds.ObjectsFolder))
    ((status, found),) = await references(connection, [node])
    if not status.is_good():
        raise LookupError(f"{path or 'Objects'}: the server shows nothing there ({status_name(status.value)})")
    # A node can be below another in more than one way.
    below = list({one.NodeId: one for one in found}.values())
    variables = [one for one in below if one.NodeClass == ua.NodeClass.Variable and not _is_elsewhere(one)]
    about: dict[Any, tuple[Any, NodeMetadata]] = {}
    for first in range(0, len(variables), NODES_AT_ONCE):
        nodes = [one.NodeId for one in variables[first : first + NODES_AT_ONCE]]
        values = await attributes(connection, [(node, ua.AttributeIds.Value) for node in nodes])
        known = await describe(connection, nodes)
        about |= dict(zip(nodes, zip(values, known, strict=True), strict=True))
    entries = [
        _variable(connection, one, *about[one.NodeId]) if one.NodeId in about else _object(connection, one)
        for one in below
    ]
    if not below:
        entries = await _elements(connection, node, path)
    if len(found) == REFERENCES_LIMIT:
        name, why = f"(more than {REFERENCES_LIMIT}; the rest is not shown)", "they are too many to be listed"
        entries.append(BrowseEntry(name=name, why_not=why))
    return entries


async def _node(connection: Connection, device: OpcuaDevice, path: str) -> Any:
    try:
        address = parse_address(path).within(device.namespaces)
    except ValueError as error:
        raise LookupError(str(error)) from error
    (found,) = await resolve(connection, [address])
    if isinstance(found, bytes):
        return node_id_of(found)
    raise LookupError(found.sentence)


def _object(connection: Connection, one: Any) -> BrowseEntry:
    has_below = one.NodeClass not in _LEAVES and not _is_elsewhere(one)
    return BrowseEntry(
        name=_name(one),
        path=_address(connection, one.NodeId) if has_below else "",
        type=one.NodeClass.name if one.NodeClass != ua.NodeClass.Object else "",
        is_standard=_is_standard(one),
    )


def _variable(connection: Connection, one: Any, answer: Any, known: NodeMetadata) -> BrowseEntry:
    """One variable: what is below it can be browsed, and a value or an array of values can be a tag."""
    address, kind = _address(connection, one.NodeId), _kind(answer, known)
    sizes = _sizes(answer)
    if known.is_array and sizes is None:
        sizes = (0,)  # There is no value to count its elements by.
    tag, why_not = _tag_or_why_not(address, kind, sizes, answer, known.metadata)
    return BrowseEntry(
        name=_name(one),
        path=address if known.is_parent else "",
        type=_shown_type(kind) + (f"[{'x'.join(map(str, sizes))}]" if sizes is not None else ""),
        value=_shown(connection, answer, known.metadata.texts),
        tag=tag,
        why_not=why_not,
        is_standard=_is_standard(one),
    )


async def _elements(connection: Connection, node: Any, path: str) -> list[BrowseEntry]:
    """The elements of an array, which are tags by their index."""
    (answer,) = await attributes(connection, [(node, ua.AttributeIds.Value)])
    (known,) = await describe(connection, [node])
    kind, sizes = _kind(answer, known), _sizes(answer)
    if not sizes or not path or kind not in TAG_TYPES:
        return []
    tag = _tag(_address(connection, node), kind, known.metadata)
    entries = []
    for indices in islice(product(*map(range, sizes)), _ELEMENTS):
        value = answer.Value.Value
        for number in indices:
            value = value[number]
        entries.append(
            BrowseEntry(
                name=f"[{','.join(map(str, indices))}]",
                type=_shown_type(kind),
                value=_text(connection, value, known.metadata.texts),
                tag=tag | {"index": indices[0] if len(indices) == 1 else list(indices)},
            )
        )
    return entries


def _tag_or_why_not(
    address: str, kind: str, sizes: Sequence[int] | None, answer: Any, metadata: TagMetadata
) -> tuple[dict[str, Any], str]:
    """The keys of a tag, or why there can be none."""
    if not address:
        return {}, "its namespace is not one that the server has"
    if not kind:
        status = answer.StatusCode
        why = f" ({status_name(status.value)})" if status is not None and status.value else ""
        return {}, f"the server gives neither a value nor a type that can be a tag{why}"
    if kind not in TAG_TYPES:
        members = "; make a tag of each member that you need, with `field`" if kind == "ExtensionObject" else ""
        return {}, f"it is {'an array of' if sizes is not None else 'a'} {_shown_type(kind)}{members}"
    if sizes is not None and not prod(sizes):
        return {}, "it is an array without elements now"
    tag = _tag(address, kind, metadata)
    longest = _longest(answer.Value.Value if answer.Value else None)
    if longest > _TEXT_BYTES_LIMIT:
        return {}, f"its text is {longest:,} bytes long, and a tag holds up to {_TEXT_BYTES_LIMIT:,}"
    if longest > _TEXT_BYTES:
        tag["length"] = _TEXT_BYTES_LIMIT
    if sizes:
        ranges = [f"0..{size - 1}" for size in sizes]
        tag["index"] = ranges[0] if len(ranges) == 1 else ranges
    return tag, ""


def _longest(value: Any) -> int:
    """Bytes of the longest text in a value, as a tag has it."""
    if isinstance(value, list):
        return max(map(_longest, value), default=0)
    if isinstance(value, bytes):
        return 2 * len(value)
    text = value.Text if isinstance(value, ua.LocalizedText) else value
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0


def _tag(address: str, kind: str, metadata: TagMetadata) -> dict[str, Any]:
    said: dict[str, Any] = {
        "address": address,
        "type": TAG_TYPES[kind],
        "unit": metadata.unit,
        "description": metadata.description,
    }
    if metadata.range is not None:
        said["range"] = list(metadata.range)
    return {key: value for key, value in said.items() if value != ""}


def _kind(answer: Any, known: NodeMetadata) -> str:
    """The built-in type of the value or its elements, or "enumeration"; empty where it is not known."""
    if answer.Value is None or answer.Value.VariantType == ua.VariantType.Null:
        return _declared(known.data_type)
    name = str(answer.Value.VariantType.name)
    return "enumeration" if name == "Int32" and known.metadata.texts else name


def _shown_type(kind: str) -> str:
    """A type as a tag has it, or as OPC UA calls it."""
    return "structure" if kind == "ExtensionObject" else TYPES.get(kind, kind)


def _declared(data_type: Any) -> str:
    if isinstance(data_type, ua.NodeId) and data_type.NamespaceIndex == 0:
        return _BUILT_IN.get(data_type.Identifier, "")
    return ""


def _sizes(answer: Any) -> Sequence[int] | None:
    """The length of an array, or of each dimension of a matrix; None for a single value."""
    if answer.Value is None or not isinstance(answer.Value.Value, list):
        return None
    dimensions = answer.Value.Dimensions or ()
    return dimensions if len(dimensions) > 1 else (len(answer.Value.Value),)


def _shown(connection: Connection, answer: Any, texts: Sequence[tuple[int, str]]) -> str:
    if answer.StatusCode is not None and answer.StatusCode.value >> 30:
        return str(answer.StatusCode.name)
    return "" if answer.Value is None else _text(connection, answer.Value.Value, texts)


def _text(connection: Connection, value: Any, texts: Sequence[tuple[int, str]]) -> str:
    match value:
        case None | ua.ExtensionObject():
            return ""
        case list():
            more = ", ..." if len(value) > _ELEMENTS_SHOWN else ""
            return f"[{', '.join(_text(connection, one, texts) for one in value[:_ELEMENTS_SHOWN])}{more}]"
        case bool():
            return str(value).lower()
        case int() if meaning := dict(texts).get(value):
            return f"{int(value)} ({meaning})"
        case float():
            return f"{value:.12g}"
        case datetime():
            return value.isoformat()
        case str() | ua.LocalizedText():
            return printable(value, _TEXT_SHOWN)
    return printable(_recorded_text(connection, value), _TEXT_SHOWN)


def _recorded_text(connection: Connection, value: Any) -> str:
    """A value of a type without a counterpart among tags' types, as its tag has it."""
    match value:
        case bytes():
            return value[:_TEXT_SHOWN].hex()
        case ua.NodeId():
            return _address(connection, value)
        case ua.QualifiedName():
            return value.Name or ""
        case ua.StatusCode():
            return f"{value.value:#010x} ({value.name})"
    return str(value)


def _name(one: Any) -> str:
    return printable(one.BrowseName.Name, 200) or printable(one.DisplayName, 200) or "(no name)"


def _is_standard(one: Any) -> bool:
    """Whether OPC UA itself defines a node, as the server's diagnostics (OPC 10000-6, annex A)."""
    return one.NodeId.NamespaceIndex == 0 and isinstance(one.NodeId.Identifier, int)


def _is_elsewhere(one: Any) -> bool:
    """Whether a node lies in another server."""
    return bool(getattr(one.NodeId, "ServerIndex", 0))


def _address(connection: Connection, node: Any) -> str:
    """The address of a node for a configuration; empty where its namespace is not known."""
    if uri := getattr(node, "NamespaceUri", None):
        return str(NodeAddress(uri, _KINDS[node.NodeIdType.value], node.Identifier))
    if node.NamespaceIndex >= len(connection.namespaces):
        return ""
    kind = _KINDS[node.NodeIdType.value]
    return str(NodeAddress(connection.namespaces[node.NamespaceIndex], kind, node.Identifier))
