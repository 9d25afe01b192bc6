"""Variables of OPC UA servers from a NodeSet2 file (OPC 10000-6, annex F).

The index of a namespace counts in the file only; each node is written with the URI. Variables below types belong to the
type and not to a server, and properties describe a variable: both are no tags. Units and ranges of variables are taken
from their properties EngineeringUnits and EURange (OPC 10000-8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from xml.etree.ElementTree import Element

from edge.driver import SourceTag
from edge.importers.found import Found, number, one_line, whole
from edge.importers.markup import origin_of

_NAMESPACE = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
_BUILT_IN = ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double",
             "String", "DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode",
             "QualifiedName", "LocalizedText")  # fmt: skip
_SUBTYPES = {"i=29": "enumeration", "i=290": "Double", "i=294": "DateTime", "i=295": "String", "i=288": "UInt32",
             "i=289": "UInt32", "i=20998": "UInt32", "i=12": "String", "i=307": "ByteString",
             "i=30": "ByteString"}  # fmt: skip
_HIERARCHICAL = frozenset({"i=35", "i=47", "i=46", "i=48", "i=49", "HasComponent", "HasProperty", "Organizes",
                           "HasOrderedComponent", "HasNotifier"})  # fmt: skip
_PROPERTY = frozenset({"i=46", "HasProperty"})
_SUBTYPE = frozenset({"i=45", "HasSubtype"})
_TYPES = frozenset({"UAObjectType", "UAVariableType", "UADataType", "UAReferenceType", "UAMethod"})
_ROOTS = frozenset({"i=84", "i=85"})
_DEPTH = 64
_READ = 1


@dataclass(slots=True)
class _Node:
    element: Element
    kind: str
    name: str
    parent: str = ""
    is_property: bool = False
    properties: dict[str, Element] = field(default_factory=dict)


def is_nodeset(root: Element) -> bool:
    """Whether an XML file is a NodeSet2."""
    return root.tag == f"{_NAMESPACE}UANodeSet"


def read(root: Element, file: str, found: Found) -> None:
    """Add the variables of a node set to what was found."""
    uris = ["", *((each.text or "").strip() for each in root.findall(f"{_NAMESPACE}NamespaceUris/{_NAMESPACE}Uri"))]
    aliases = {each.get("Alias", ""): (each.text or "").strip() for each in root.iter(f"{_NAMESPACE}Alias")}
    nodes = _nodes(root, aliases)
    for node in nodes.values():
        if node.is_property and (above := nodes.get(node.parent)):
            above.properties[node.name] = node.element
    for name, node in nodes.items():
        if node.kind == "UAVariable" and not node.is_property:
            _variable(name, node, nodes, uris, aliases, file, found)


def _nodes(root: Element, aliases: Mapping[str, str]) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    below: list[tuple[str, str, bool]] = []
    for element in root:
        kind, name = element.tag.removeprefix(_NAMESPACE), element.get("NodeId", "")
        if not name:
            continue
        browse_name = element.get("BrowseName", "").partition(":")
        node = nodes[name] = _Node(element, kind, browse_name[2] or browse_name[0], element.get("ParentNodeId", ""))
        for reference in element.findall(f"{_NAMESPACE}References/{_NAMESPACE}Reference"):
            of_type = reference.get("ReferenceType", "")
            of_type = aliases.get(of_type, of_type)
            target = (reference.text or "").strip()
            if of_type in _HIERARCHICAL and reference.get("IsForward", "true") == "false":
                node.parent, node.is_property = target, of_type in _PROPERTY
            elif of_type in _HIERARCHICAL:
                below.append((name, target, of_type in _PROPERTY))
            elif of_type in _SUBTYPE and reference.get("IsForward", "true") == "false":
                node.parent = target
    for above, name, is_property in below:
        if name in nodes and not nodes[name].parent:
            nodes[name].parent, nodes[name].is_property = above, is_property
    return nodes


def _variable(
    name: str, node: _Node, nodes: Mapping[str, _Node], uris: list[str], aliases: Mapping[str, str], file: str,
    found: Found,
) -> None:  # fmt: skip
    levels, reason = _levels(node, nodes)
    origin, written = origin_of(node.element, file), "/".join(levels)
    if not whole(node.element.get("AccessLevel", "1"), 0) & _READ:
        reason = reason or "its access level does not let it be read"
    is_array = not node.element.get("ValueRank", "-1").startswith("-")
    written_sizes = node.element.get("ArrayDimensions", "").split(",")
    sizes = tuple(whole(size.strip(), 0) for size in written_sizes if size.strip()) if is_array else ()
    if is_array and (not sizes or not all(sizes)):
        reason = reason or "it is an array whose size is not in the file: browse the server"
    try:
        address = _address(name, uris)
    except ValueError as error:
        reason = reason or str(error)
    if reason:
        found.left_out(origin, reason, written)
        return
    kind = _type(node.element.get("DataType", "i=24"), nodes, aliases)
    texts = [node.element.findtext(f"{_NAMESPACE}Description") or ""]
    keys = {"description": one_line(texts), **_properties(node.properties)}
    found.tags.append(SourceTag(origin=origin, levels=levels, notation="node", address=address, type=kind, sizes=sizes,
                                keys=keys))  # fmt: skip


def _levels(node: _Node, nodes: Mapping[str, _Node]) -> tuple[tuple[str, ...], str]:
    """The names down to a node, and why it is no value of a server; empty where it is one."""
    levels: list[str] = []
    at: _Node | None = node
    while at is not None and len(levels) < _DEPTH:
        levels.insert(0, at.name)
        if at.kind in _TYPES:
            return tuple(levels), f"it belongs to {at.name}, which is a type or a method"
        at = nodes.get(at.parent) if at.parent not in _ROOTS else None
    return tuple(levels), "" if at is None else "its parents form a circle"


def _address(name: str, uris: list[str]) -> str:
    """A node with the URI of its namespace. Raises ValueError."""
    match = re.fullmatch(r"ns=(\d+);(.*)", name, re.DOTALL)
    if match is None or match[1] == "0":
        return name if match is None else match[2]
    if whole(match[1], len(uris)) >= len(uris):
        raise ValueError(f"the file has no URI for the namespace of {name}")
    uri = uris[int(match[1])].replace("%", "%25").replace(";", "%3B")
    return f"nsu={uri};{match[2]}"


def _type(written: str, nodes: Mapping[str, _Node], aliases: Mapping[str, str]) -> str:
    """The built-in type of a data type, by its supertypes; as it is written where that is not in the file."""
    at = aliases.get(written, written)
    for _ in range(_DEPTH):
        if at in _BUILT_IN:
            return at
        if (match := re.fullmatch(r"i=(\d+)", at)) and 1 <= int(match[1]) <= len(_BUILT_IN):
            return _BUILT_IN[int(match[1]) - 1]
        if at in _SUBTYPES:
            return _SUBTYPES[at]
        if at not in nodes or not nodes[at].parent:
            break
        at = nodes[at].parent
    own = nodes.get(aliases.get(written, written))
    return own.name if own is not None else written


def _properties(properties: Mapping[str, Element]) -> dict[str, object]:
    keys: dict[str, object] = {}
    if (about := properties.get("EngineeringUnits")) is not None:
        shown = next((each for each in about.iter() if each.tag.endswith("}DisplayName") and len(each)), None)
        keys["unit"] = (
            next((each.text or "" for each in shown if each.tag.endswith("}Text")), "") if shown is not None else ""
        )
    if (about := properties.get("EURange")) is not None:
        ends = {each.tag.rpartition("}")[2]: each.text or "" for each in about.iter()}
        with suppress(ValueError, KeyError):  # A limit that is not set, or is no number.
            low, high = number(ends["Low"]), number(ends["High"])
            if -inf < low < high < inf:
                keys["range"] = [low, high]
    return keys
