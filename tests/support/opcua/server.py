"""The server itself: python -m tests.support.opcua.server PORT NUMBER; prints "ready" and runs until it is killed."""

from __future__ import annotations

import asyncio
import logging
import sys

from asyncua import Server, ua

from tests.support.opcua.values import URI, VALUES, values_of


async def serve(port: int, number: int) -> None:
    """Hold the values until the end."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    folder = await server.nodes.objects.add_folder(ua.NodeId("Plant", index), f"{index}:Plant")
    for (name, (_, kind, _)), value in zip(VALUES.items(), values_of(number), strict=True):
        held = ua.Variant(value, getattr(ua.VariantType, kind))
        await folder.add_variable(ua.NodeId(name, index), f"{index}:{name}", held)
    async with server:
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
