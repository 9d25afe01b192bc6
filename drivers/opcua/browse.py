"""Browsing for a configuration: the nodes below a node, and the servers at a host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua

from drivers.opcua.address import Kind, NodeAddress, parse_address
from drivers.opcua.address_space import NODES_AT_ONCE, REFERENCES_LIMIT, attributes, printable, references, resolve
from drivers.opcua.certificates import (
    BadCertificate,
    application_uris,
    fingerprint,
    hosts,
    in_pairs,
    parse,
    sha1_fingerprint,
    subject,
)
from drivers.opcua.channel import NO_SECURITY, node_id_of
from drivers.opcua.connection import (
    Connection,
    Endpoint,
    ServiceRefused,
    close,
    host_of,
    open_connection,
    parse_endpoints,
    status_name,
)
from drivers.opcua.metadata import NodeMetadata, describe
from drivers.opcua.session_setup import endpoints
from drivers.opcua.settings import DEFAULT_PORT, OpcuaDevice
from edge.clock import SystemClock
from edge.driver import BrowseEntry, Discovered
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation
from edge.model import TagMetadata

_TYPES = {
    "Boolean": "bool", "SByte": "int8", "Byte": "uint8", "Int16": "int16", "UInt16": "uint16", "Int32": "int32",
    "UInt32": "uint32", "Int64": "int64", "UInt64": "uint64", "Float": "float32", "Double": "float64",
    "String": "text", "LocalizedText": "text", "DateTime": "datetime",
}  # fmt: skip
_BUILT_IN: dict[int, str] = {kind.value: kind.name for kind in ua.VariantType}
_KINDS: dict[int, Kind] = {0: "i", 1: "i", 2: "i", 3: "s", 4: "g", 5: "b"}
_TEXT_SHOWN = 100
_ELEMENTS = 1000
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
        entries.append(BrowseEntry(name=f"(more than {REFERENCES_LIMIT}; the rest is not shown)"))
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
    )


def _variable(connection: Connection, one: Any, answer: Any, known: NodeMetadata) -> BrowseEntry:
    """One variable: with elements or members it can be browsed, as a single value it can be a tag."""
    address = _address(connection, one.NodeId)
    kind, is_array = _type(answer, known)
    is_parent = known.is_parent or (is_array and kind in _TYPES.values())
    has_tag = kind in {*_TYPES.values(), "enumeration"} and not is_array
    return BrowseEntry(
        name=_name(one),
        path=address if is_parent else "",
        type=f"{kind}[{len(answer.Value.Value or ())}]" if is_array else kind,
        value=_shown(answer, known.metadata.texts),
        tag=_tag(address, kind, known.metadata) if has_tag else {},
    )


async def _elements(connection: Connection, node: Any, path: str) -> list[BrowseEntry]:
    """The elements of an array, which are tags by their index."""
    (answer,) = await attributes(connection, [(node, ua.AttributeIds.Value)])
    (known,) = await describe(connection, [node])
    kind, is_array = _type(answer, known)
    if not is_array or not path or len(answer.Value.Dimensions or ()) > 1:
        return []
    address = _address(connection, node)
    return [
        BrowseEntry(
            name=f"[{number}]",
            type=kind,
            value=_text(value, known.metadata.texts),
            tag=_tag(address, kind, known.metadata) | {"index": number} if kind in _TYPES.values() else {},
        )
        for number, value in enumerate((answer.Value.Value or ())[:_ELEMENTS])
    ]


def _tag(address: str, kind: str, metadata: TagMetadata) -> dict[str, Any]:
    said: dict[str, Any] = {
        "address": address,
        "type": kind,
        "unit": metadata.unit,
        "description": metadata.description,
    }
    if metadata.range is not None:
        said["range"] = list(metadata.range)
    return {key: value for key, value in said.items() if value != ""}


def _type(answer: Any, known: NodeMetadata) -> tuple[str, bool]:
    """(type of the value as a tag has it, or as OPC UA calls it; whether it is an array)."""
    if answer.Value is None or answer.Value.VariantType == ua.VariantType.Null:
        return _declared(known.data_type), False
    name = answer.Value.VariantType.name
    is_array = isinstance(answer.Value.Value, list)
    is_enumeration = name == "Int32" and bool(known.metadata.texts)
    return "enumeration" if is_enumeration else _TYPES.get(name, name), is_array


def _declared(data_type: Any) -> str:
    if isinstance(data_type, ua.NodeId) and data_type.NamespaceIndex == 0:
        name = _BUILT_IN.get(data_type.Identifier, "")
        return _TYPES.get(name, name)
    return ""


def _shown(answer: Any, texts: Sequence[tuple[int, str]]) -> str:
    if answer.StatusCode is not None and answer.StatusCode.value >> 30:
        return str(answer.StatusCode.name)
    return "" if answer.Value is None else _text(answer.Value.Value, texts)


def _text(value: Any, texts: Sequence[tuple[int, str]]) -> str:
    if isinstance(value, list):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and (meaning := dict(texts).get(value)):
        return f"{int(value)} ({meaning})"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str | ua.LocalizedText):
        return printable(value, _TEXT_SHOWN)
    return f"{value:.12g}" if isinstance(value, float) else printable(str(value), _TEXT_SHOWN)


def _name(one: Any) -> str:
    return printable(one.BrowseName.Name, 200) or printable(one.DisplayName, 200) or "(no name)"


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


_TIMEOUT_S = 3.0
_SPOKEN = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
_BEST = (("Aes256_Sha256_RsaPss", "SignAndEncrypt"), ("Basic256Sha256", "SignAndEncrypt"),
         ("Aes128_Sha256_RsaOaep", "SignAndEncrypt"), *((policy, "Sign") for policy in _SPOKEN))  # fmt: skip
_SERVERS_SHOWN = 20


async def discover(
    host: str, pause: Callable[[], Awaitable[None]], ports: Sequence[int] = (DEFAULT_PORT,)
) -> list[Discovered]:
    """The servers at a host; see `edge.driver.Discoverable.discover`."""
    found = []
    for port in ports:
        try:
            found.append(await _look(host, port, pause))
        except (DeviceUnreachable, DeviceRefused, ProtocolViolation):
            continue  # No answer, or no OPC UA.
    return found


async def _look(host: str, port: int, pause: Callable[[], Awaitable[None]]) -> Discovered:
    url = f"opc.tcp://[{host}]:{port}" if ":" in host else f"opc.tcp://{host}:{port}"
    await pause()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            connection = await open_connection(url, SystemClock(), _TIMEOUT_S, NO_SECURITY())
    except TimeoutError as error:
        raise DeviceUnreachable(f"{url} does not answer") from error
    try:
        await pause()
        found = parse_endpoints(await endpoints(connection))
        await pause()
        servers = await _servers(connection)
    finally:
        await close(connection)
    first = found[0] if found else None
    name = (first.application or first.application_uri) if first else "an OPC UA server without endpoints"
    return Discovered(
        port=port,
        what=" ".join(filter(None, (name, f"({first.product})" if first and first.product else ""))),
        details=tuple(_details(host, found, servers)),
        device=_device(url, found),
    )


async def _servers(connection: Connection) -> list[str]:
    """The application URIs that a discovery server knows, with their URLs."""
    try:
        asked = ua.FindServersRequest(Parameters=ua.FindServersParameters(EndpointUrl=connection.url))
        answers = (await connection.request(asked)).Servers or ()
    except ServiceRefused:
        return []
    return [
        f"{printable(one.ApplicationUri, 200)} at "
        + ", ".join(printable(url, 200) for url in (one.DiscoveryUrls or ())[:4])
        for one in answers[:_SERVERS_SHOWN]
    ]


def _details(host: str, found: Sequence[Endpoint], servers: Sequence[str]) -> list[tuple[str, str]]:
    details = [("application", uri) for uri in dict.fromkeys(endpoint.application_uri for endpoint in found)]
    details += [("offers", text) for text in dict.fromkeys(map(str, found))]
    for url in dict.fromkeys(endpoint.url for endpoint in found):
        if host_of(url) != host.lower():
            details.append(("endpoint", f"{url}: it names another host; go on with the address that answers here"))
    for data in dict.fromkeys(endpoint.certificate for endpoint in found if endpoint.certificate):
        details += _certificate(data)
    own = {endpoint.application_uri for endpoint in found}
    details += [("knows", text) for text in servers if text.split(" at ")[0] not in own]
    return details


def _certificate(data: bytes) -> list[tuple[str, str]]:
    try:
        certificate = parse(data)
        made_for = ", ".join([*hosts(certificate), *application_uris(certificate)])
    except BadCertificate as error:
        return [("certificate", str(error))]
    return [
        ("certificate", f"{subject(certificate)}, until {certificate.not_valid_after_utc:%Y-%m-%d}, for {made_for}"),
        ("SHA-256", in_pairs(fingerprint(certificate))),
        ("SHA-1", in_pairs(sha1_fingerprint(certificate))),
    ]


def _device(url: str, found: Sequence[Endpoint]) -> dict[str, Any]:
    """Settings with the best security that is offered; none only where nothing else is."""
    offered = {(endpoint.policy, endpoint.mode) for endpoint in found}
    best = next((one for one in _BEST if one in offered), None)
    if best is None:
        return {"url": url, "security": "none"}
    return {"url": url, "security": {"policy": best[0], "mode": best[1]}, "certificates": "pki"}
