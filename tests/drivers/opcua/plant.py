"""A real server in a thread of its own, whose nodes tests change while they read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from asyncua import Server, ua
from asyncua.common.callback import CallbackType

from drivers.opcua import OpcuaDriver, OpcuaKind
from drivers.opcua.plan import OpcuaPlan
from drivers.opcua.settings import OpcuaDevice
from edge.config.validate import settings_from
from edge.testing.clock import ManualClock
from tests.support.ports import free_port

T = TypeVar("T")

PLANT = "http://plant.example/line-4"


class Plant:
    """An asyncua server; `node` and `put` name nodes by the string in their NodeId.

    Attributes:
        reads: how many nodes each read of values asked for.
        before_read: awaited before each of them; an error that it raises is the answer.
    """

    def __init__(self, namespaces: Sequence[str] = (PLANT,), port: int = 0) -> None:
        self.namespaces = namespaces
        self.port = port or free_port()
        self.reads: list[int] = []
        self.before_read: Callable[[int], Awaitable[None]] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"plant on {self.port}")

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Plant:
        self._thread.start()
        self.do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def node_id(self, name: str) -> ua.NodeId:
        return ua.NodeId(name, self.index)

    def add(self, name: str, value: Any, kind: ua.VariantType | None = None, **more: Any) -> None:
        self.do(self.folder.add_variable(self.node_id(name), f"{self.index}:{name}", value, kind, **more))

    def remove(self, name: str) -> None:
        self.do(self.server.delete_nodes([self.server.get_node(self.node_id(name))]))

    def put(self, name: str, value: Any, kind: ua.VariantType | None = None, code: int = 0, **more: Any) -> None:
        """Give a node a value, of any type, whatever it had before."""
        data_value = ua.DataValue(ua.Variant(value, kind), ua.StatusCode(ua.UInt32(code)), **more)
        self.server.iserver.aspace[self.node_id(name)].attributes[ua.AttributeIds.Value].value = data_value

    def end_connections(self) -> None:
        """Abort every client's connection."""
        for client in list(self.server.bserver.clients):
            self._loop.call_soon_threadsafe(client.transport.abort)

    async def _start(self) -> None:
        self.server = server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for uri in self.namespaces:
            await server.register_namespace(uri)
        self.index = await server.get_namespace_index(PLANT)
        self.folder = await server.nodes.objects.add_folder(self.node_id("Plant"), f"{self.index}:Plant")
        server.subscribe_server_callback(CallbackType.PreRead, self._watch)
        await server.start()

    async def _watch(self, event: Any, _: object) -> None:
        nodes = event.request_params.NodesToRead
        if event.is_external and len(nodes) and nodes[0].NodeId.NamespaceIndex == self.index:
            self.reads.append(len(nodes))
            if self.before_read is not None:
                await self.before_read(len(nodes))


def device(plant: Plant, tags: list[dict[str, Any]], **more: Any) -> OpcuaDevice:
    """Settings of one scan group; a tag's address is the string of its NodeId unless it says more."""
    written = [
        {"name": f"tag-{number}", **tag}
        | ({} if tag["address"][:1] == "/" or "=" in tag["address"] else {"address": f"nsu=x;s={tag['address']}"})
        for number, tag in enumerate(tags)
    ]
    return settings_from(OpcuaDevice,
        {"name": "line-4", "driver": "opcua", "url": plant.url, "security": "none", "namespaces": {"x": PLANT},
         "scan_groups": [{"every": "1 s", "tags": written}], **more}
    )  # fmt: skip


def driver_and_plan(
    plant: Plant, clock: ManualClock, tags: list[dict[str, Any]], **more: Any
) -> tuple[OpcuaDriver, OpcuaPlan]:
    settings = device(plant, tags, **more)
    driver = OpcuaKind().driver(settings, clock)
    return driver, driver.plan(settings.scan_groups[0].tags)
