"""An OPC UA server in the loop of a test, whose one node counts the times that its value is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncua import Server, ua
from asyncua.common.callback import CallbackType

from tests.support.ports import free_port


class CountingServer:
    """Entering it gives its URL.

    `arrive` is called with each request for the value and gives the seconds that it waits, then `value` what it gets.
    """

    def __init__(self, arrive: Callable[[], float], value: Callable[[], int]) -> None:
        self._arrive, self._value = arrive, value
        self._server = Server()

    async def __aenter__(self) -> str:
        server, url = self._server, f"opc.tcp://127.0.0.1:{free_port()}/"
        await server.init()
        server.set_endpoint(url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace("urn:tidegate:counting")
        node = await server.nodes.objects.add_variable(ua.NodeId("Count", index), f"{index}:Count", ua.UInt32(0))

        async def arrive(event: Any, _: object) -> None:
            asked = event.request_params.NodesToRead
            if any(each.NodeId == node.nodeid and each.AttributeId == ua.AttributeIds.Value for each in asked):
                await asyncio.sleep(self._arrive())

        def value(*_: object) -> ua.DataValue:
            return ua.DataValue(ua.Variant(self._value(), ua.VariantType.UInt32))

        server.subscribe_server_callback(CallbackType.PreRead, arrive)
        server.iserver.aspace.set_attribute_value_callback(node.nodeid, ua.AttributeIds.Value, value)
        await server.start()
        return url

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()
