"""Subscribed OPC UA: CPU per notified value through the driver, compared with the library alone in the same run.

    python -m bench.opcua_subscription --nodes 1000 --seconds 3

The responder is a process of its own that answers every publish request at once with a prepared notification of all
nodes, so that what is measured is the client. The result is the client's CPU time while it receives.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.opcua_driver import NAMESPACE, VARIANTS, cpu_s
from bench.results import Row, store
from bench.sites import responder
from edge.config.validate import settings_from
from tests.support.ports import free_port


async def listen_for(values: Callable[[], int], seconds: float) -> tuple[int, float]:
    """Values reported and CPU seconds used."""
    while not values():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    gc.collect()
    gc.freeze()
    before, used_s = values(), cpu_s()
    await asyncio.sleep(seconds)
    return values() - before, cpu_s() - used_s


async def listen_with_driver(options: argparse.Namespace) -> tuple[int, float]:
    from drivers.opcua import OpcuaKind
    from drivers.opcua.settings import OpcuaDevice
    from edge.clock import SystemClock
    from edge.model import Notification

    tags = [{"name": f"t{i}", "address": f"nsu={NAMESPACE};s=Line4.Temp{i}", "type": "float64"}
            for i in range(options.nodes)]  # fmt: skip
    device = settings_from(OpcuaDevice,
        {"name": "bench", "driver": "opcua", "url": options.url, "security": "none",
         "scan_groups": [{"every": "100 ms", "tags": tags, "subscribe": {}}]}
    )  # fmt: skip
    driver = OpcuaKind().driver(device, SystemClock())
    notified_values = 0

    def tell(changes: Notification) -> None:
        nonlocal notified_values
        notified_values += sum(map(len, changes.vectors))

    async with driver.connect() as session:
        listening = asyncio.create_task(
            session.receive_notifications(driver.plan_subscription(device.scan_groups[0]), tell)
        )
        try:
            return await listen_for(lambda: notified_values, options.seconds)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def listen_with_library(options: argparse.Namespace) -> tuple[int, float]:
    from asyncua import Client, ua

    notified_values = 0

    class Handler:
        def datachange_notification(self, *_: Any) -> None:
            nonlocal notified_values
            notified_values += 1

    async with Client(options.url) as client:
        index = await client.get_namespace_index(NAMESPACE)
        subscription = await client.create_subscription(100, Handler())
        nodes = [client.get_node(ua.NodeId(f"Line4.Temp{i}", index)) for i in range(options.nodes)]
        await subscription.subscribe_data_change(nodes)
        return await listen_for(lambda: notified_values, options.seconds)


def run_client(options: argparse.Namespace) -> None:
    listen = listen_with_driver if options.client == "driver" else listen_with_library
    if options.loop == "uvloop":
        import uvloop

        values, used_s = uvloop.run(listen(options))
    else:
        values, used_s = asyncio.run(listen(options))
    print(json.dumps({"values": values, "cpu_s": used_s}), flush=True)


def prepared_notifications(handles: list[int]) -> list[bytes]:
    """DataChangeNotifications of float64 values with source times."""
    notifications = []
    for variant in range(VARIANTS):
        items = b"".join(
            struct.pack("<IBBdq", handle, 5, 11, i * 1.5 + variant, 133_000_000_000_000_000 + variant)
            for i, handle in enumerate(handles)
        )
        body = struct.pack("<i", len(handles)) + items + struct.pack("<i", -1)
        notifications.append(struct.pack("<BBHBi", 1, 0, 811, 1, len(body)) + body)
    return notifications


async def serve(options: argparse.Namespace) -> None:
    from asyncua import Server, ua
    from asyncua.server.uaprocessor import UaProcessor
    from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary

    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options.port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NAMESPACE)
    for i in range(options.nodes):
        await server.nodes.objects.add_variable(ua.NodeId(f"Line4.Temp{i}", index), f"{index}:Temp{i}", i * 1.5)
    process = UaProcessor.process_message
    handles: list[int] = []
    prepared: list[bytes] = []
    subscription = sequence_number = 0

    async def answer(self: Any, sequence: Any, body: Any) -> Any:
        nonlocal subscription, sequence_number
        head = body.copy()
        service = nodeid_from_binary(head).Identifier
        if service == 751:
            struct_from_binary(ua.RequestHeader, head)
            asked = struct_from_binary(ua.CreateMonitoredItemsParameters, head)
            handles.extend(item.RequestedParameters.ClientHandle for item in asked.ItemsToCreate)
            prepared[:] = prepared_notifications(handles) if len(handles) == options.nodes else ()
            subscription = asked.SubscriptionId
        if service != 826:
            return await process(self, sequence, body)
        while not prepared:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        request_handle = struct_from_binary(ua.RequestHeader, head).RequestHandle
        sequence_number += 1
        now = 133_000_000_000_000_000
        message = b"".join([
            struct.pack("<BBHqIIBiBBB", 1, 0, 829, now, request_handle, 0, 0, -1, 0, 0, 0),
            struct.pack("<IiBIqi", subscription, -1, 0, sequence_number, now, 1),
            prepared[sequence_number % VARIANTS], struct.pack("<ii", -1, -1),
        ])  # fmt: skip
        self._transport.write(self._connection.message_to_binary(message, request_id=sequence.RequestId))
        await asyncio.sleep(0)
        return True

    UaProcessor.process_message = answer
    async with server:
        print("ready", flush=True)
        await asyncio.Event().wait()


@contextmanager
def server_url(options: argparse.Namespace) -> Iterator[str]:
    """The address of a server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "bench.opcua_subscription", "--serve", "--port", str(port),
               "--nodes", str(options.nodes)]  # fmt: skip
    with responder(command):
        yield f"opc.tcp://127.0.0.1:{port}"


def measure(options: argparse.Namespace, client: str, loop: str) -> float:
    """CPU microseconds for a value."""
    with server_url(options) as url:
        command = [
            sys.executable, "-m", "bench.opcua_subscription", "--client", client, "--loop", loop, "--url", url,
            "--nodes", str(options.nodes), "--seconds", str(options.seconds),
        ]  # fmt: skip
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    us = 1e6 * float(found["cpu_s"]) / max(1, int(found["values"]))
    print(f"{client} on {loop:8} {us:8.3f} us a value, {found['values']:,} values", flush=True)
    return us


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=["driver", "library"], help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options))
    elif options.client:
        run_client(options)
    else:
        ours = {loop: measure(options, "driver", loop) for loop in ("asyncio", "uvloop")}
        library = measure(options, "library", "uvloop")
        text = f"{ours['uvloop']:.2f} us (asyncio {ours['asyncio']:.2f}); the library alone {library:.1f} us"
        command = f"python -m bench.opcua_subscription --nodes {options.nodes}"
        figure = f"P4 OPC UA subscription, {options.nodes} values in a notification, CPU per value"
        store([Row(figure=figure, goal="<= 0.8 us", measured=text, command=command)])


if __name__ == "__main__":
    main()
