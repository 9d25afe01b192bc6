"""OPC UA in the conformance suite: the peers are asyncua servers, each in a process that can be suspended."""

from __future__ import annotations

import asyncio
import atexit
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from drivers.opcua import OpcuaKind
from edge.clock import SystemClock
from edge.testing.conformance.subject import Value
from tests.support.opcua.values import URI, VALUES, values_of
from tests.support.ports import free_port

_TYPE_AT = 24  # After the headers of message and security (OPC 10000-6, 6.7.2) comes the type id of the request.
_READING = {422: "FindServers", 428: "GetEndpoints", 461: "CreateSession", 467: "ActivateSession", 473: "CloseSession",
            527: "Browse", 533: "BrowseNext", 554: "TranslateBrowsePathsToNodeIds", 631: "Read",
            751: "CreateMonitoredItems", 763: "ModifyMonitoredItems", 781: "DeleteMonitoredItems",
            787: "CreateSubscription", 793: "ModifySubscription", 799: "SetPublishingMode", 826: "Publish",
            832: "Republish", 841: "TransferSubscriptions", 847: "DeleteSubscriptions"}  # fmt: skip
"""Services by the number of their request's binary encoding (OPC 10000-6, Annex A)."""


class ServerProcess:
    """One server in a process, always on the same port."""

    def __init__(self, number: int) -> None:
        self.port = free_port()
        self._number = number
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self._kill)

    async def start(self) -> None:
        """Start the process, or resume it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        else:
            self._process = await asyncio.to_thread(self._begin)

    async def silence(self) -> None:
        """Suspend the process: its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    async def stop(self) -> None:
        """End the process."""
        await asyncio.to_thread(self._kill)

    def _begin(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.opcua.server", str(self.port), str(self._number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the OPC UA server did not start"
        return process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


@cache
def _server(number: int) -> ServerProcess:
    """The server of this number; shared by all rules, because it takes seconds to start."""
    return ServerProcess(number)


class OpcuaSubject:
    """See `edge.testing.conformance.Subject`."""

    driver = "opcua"
    tags: Sequence[Mapping[str, Any]] = tuple(
        {"name": name, "address": f"nsu=x;s={name}", "type": kind} for name, (kind, _, _) in VALUES.items()
    )
    missing: Mapping[str, Any] = {"name": "missing", "address": "nsu=x;s=Nowhere", "type": "float64"}
    misspelled = {"name": "bad", "address": "ns=2;s=Flag", "type": "bool"}, "nsu="
    says: Mapping[str, str] = {"product": "FreeOpcUa Python Server"}
    libraries = ("asyncua",)
    reading = ("HEL", "OPN", "CLO", *_READING.values())
    patience_s = 2.0
    subscription: Mapping[str, Any] = {"subscribe": {"keep_alive": "200 ms"}}
    clock = SystemClock()

    def kind(self) -> OpcuaKind:
        """A new kind."""
        return OpcuaKind()

    @asynccontextmanager
    async def peer(self, number: int) -> AsyncIterator[ServerProcess]:
        """A server with its values."""
        server = _server(number)
        await server.start()
        try:
            yield server
        finally:
            await server.start()

    def device(self, number: int, port: int) -> Mapping[str, Any]:
        """A server on loopback, without security, so that recorded bytes can be parsed."""
        limits = {"timeout": "2 s", "connect_timeout": "10 s"}
        where = {"url": f"opc.tcp://127.0.0.1:{port}", "security": "none", "namespaces": {"x": URI}}
        return {**where, "facts": True, "limits": limits}

    def values(self, number: int) -> Sequence[Value]:
        """The values of a server."""
        return values_of(number)

    def services(self, sent: bytes) -> Sequence[str]:
        """The types of messages, and the service of each request."""
        return list(_services(sent))


def _services(sent: bytes) -> Iterator[str]:
    at = 0
    seen: set[int] = set()
    while at + 8 <= len(sent):
        kind, (size,) = sent[at : at + 3].decode(), struct.unpack_from("<I", sent, at + 4)
        if kind != "MSG":
            yield kind
        else:
            (request,) = struct.unpack_from("<I", sent, at + 20)
            if request not in seen:  # A long request has several chunks; the type is in the first.
                yield _service(sent[at + _TYPE_AT : at + _TYPE_AT + 4])
            seen.add(request)
        at += size


def _service(type_id: bytes) -> str:
    """The name of a service by the four bytes of its node id in namespace 0."""
    form, namespace, number = struct.unpack("<BBH", type_id)
    return _READING.get(number, f"service {number}") if (form, namespace) == (1, 0) else f"type {type_id.hex()}"
