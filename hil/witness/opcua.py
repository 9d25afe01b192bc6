"""The witness of OPC UA servers: asyncua's client, in one session, one Read for each tag."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from asyncua import Client, Node, ua

from hil.witness import BAD_NO_COMMUNICATION, Seen, Value, boot_ns, cannot_read, named

TYPES = {
    "Boolean": "bool", "SByte": "int8", "Byte": "uint8", "Int16": "int16", "UInt16": "uint16", "Int32": "int32",
    "UInt32": "uint32", "Int64": "int64", "UInt64": "uint64", "Float": "float32", "Double": "float64",
    "String": "text", "LocalizedText": "text", "DateTime": "int64",
}  # fmt: skip
"""What the gateway records the types of OPC UA as."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = re.compile(r"(?:\{([^{}]*)\}|([^:/{}]*):)?([^/]+)")


class AsyncuaReader:
    """See `hil.witness.Reader`."""

    library = named("asyncua")

    def __init__(self, device: Any, tags: Sequence[Any]) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # What goes wrong is in the rows.
        check(device, tags)
        self._device, self._tags = device, tags
        self._client: Client | None = None
        self._nodes: dict[str, Node] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def read(self) -> list[Seen]:
        """See `hil.witness.Reader`."""
        return [await self._read(tag) for tag in self._tags]

    async def _read(self, tag: Any) -> Seen:
        asked_ns = boot_ns()
        try:
            node = await self._node(tag)
            asked_ns = boot_ns()
            data = await node.read_data_value(raise_on_bad_status=False)
        except ua.UaStatusCodeError as error:
            return Seen(tag.name, None, tag.data_type.label, error.code, asked_ns, boot_ns())
        except (OSError, TimeoutError, asyncio.CancelledError, ua.UaError) as error:
            if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
                raise
            await self._close()
            return Seen(tag.name, None, tag.data_type.label, BAD_NO_COMMUNICATION, asked_ns, boot_ns())
        answered_ns = boot_ns()
        kind = TYPES.get(data.Value.VariantType.name, data.Value.VariantType.name) if data.Value else ""
        value = plain(data.Value.Value if data.Value else None, tag.element)
        status = data.StatusCode.value if data.StatusCode else 0
        source_ns = None if data.SourceTimestamp is None else since_1970_ns(data.SourceTimestamp)
        return Seen(tag.name, value, kind, status, asked_ns, answered_ns, source_ns)

    async def _node(self, tag: Any) -> Node:
        if self._client is None:
            self._client = await self._connected()
        if tag.name not in self._nodes:
            self._nodes[tag.name] = await _found(self._client, tag.address, self._device.namespaces)
        return self._nodes[tag.name]

    async def _connected(self) -> Client:
        client = Client(self._device.url, timeout=self._device.limits.timeout / 1e9)
        if (user := self._device.user) is not None:
            client.set_user(user.name)
            client.set_password(user.password.read().decode().strip())
        await client.connect()
        return client

    async def _close(self) -> None:
        client, self._client = self._client, None
        self._nodes.clear()
        if client is not None:
            with suppress(OSError, TimeoutError, ua.UaError):  # The connection may have ended before.
                await client.disconnect()


def check(device: Any, tags: Sequence[Any]) -> None:
    """Raises ConfigError for what neither of the two libraries is made to read here."""
    if device.security != "none" or (device.user is not None and device.user.name is None):
        raise cannot_read(device, "a server that asks for a certificate")
    if members := [tag.name for tag in tags if tag.field is not None]:
        raise cannot_read(device, "members of a structure", members)


async def _found(client: Client, address: str, namespaces: Mapping[str, str]) -> Node:
    known = await client.get_namespace_array()
    where = indexed(address, namespaces, known)
    return client.get_node(where) if isinstance(where, str) else await client.nodes.root.get_child(where)


def indexed(address: str, namespaces: Mapping[str, str], known: Sequence[str]) -> str | list[str]:
    """A node identifier, or the steps of a path from the root, with the indices that the server's namespaces have.

    Args:
        address: as in the configuration, with namespaces by URI or by a short name.
        namespaces: the URIs of the short names.
        known: the server's namespaces, by index.

    An unknown namespace gets an index that the server does not have, so that it says that the node is unknown.
    """

    def index(name: str) -> int:
        uri = namespaces.get(name, name)
        return 0 if not uri else known.index(uri) if uri in known else 0xFFFF

    if address.startswith("/"):
        return [f"{index(uri or short)}:{name}" for uri, short, name in _STEP.findall(address)]
    head, _, identifier = address.rpartition(";")
    return f"ns={index(head.removeprefix('nsu='))};{identifier}"


def plain(value: Any, element: Sequence[int] | None) -> Value | None:
    """A value, or an element of it, as a tag has it."""
    for index in element or ():
        value = value[index]
    if isinstance(value, ua.LocalizedText):
        return str(value.Text)
    if isinstance(value, datetime):
        return since_1970_ns(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def since_1970_ns(moment: datetime) -> int:
    """Nanoseconds since 1970."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000
