"""Addresses to NodeIds, anew in every session: the order of a server's namespaces can be another after its restart.

Importing this module imports asyncua: only a session does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from drivers.opcua.address import Address, NodeAddress, PathAddress
from drivers.opcua.connection import Connection, status_name
from drivers.opcua.request import node_id

_PATHS_AT_ONCE = 100
_WHOLE_PATH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An address that leads to no node of this server now, and why."""

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
    """The NodeId, or what to ask the server for it."""
    uris = [address.namespace] if isinstance(address, NodeAddress) else [uri for uri, _ in address.steps]
    for uri in uris:
        if uri not in namespaces:
            return Unresolved(f"{address}: the server has no namespace {uri}; it has {', '.join(namespaces[1:])}")
    if isinstance(address, PathAddress):
        root = ua.NodeId(ua.Int32(ua.ObjectIds.RootFolder))
        return browse_path(root, [(namespaces.index(uri), name) for uri, name in address.steps])
    return node_id(address.identifier, namespaces.index(address.namespace))


def browse_path(start: Any, names: Iterable[tuple[int, str]]) -> Any:
    """The way from a node by names, each with the index of its namespace."""
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
