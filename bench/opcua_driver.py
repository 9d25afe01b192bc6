"""Polling OPC UA: CPU per value through the driver, compared with the library alone in the same run.

    python -m bench.opcua_driver --nodes 1000 --seconds 3

The responder is a process of its own that answers every large read with prepared bytes, other values each time, so
that only the client is measured. With `--server asyncua` the library's own server looks the values up instead.
The result is the client's CPU time while it reads, compared with that of a client which only moves as many bytes at
the same rate: the cost of waking up, with cold caches after each sleep.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.results import Row, store
from bench.sites import responder
from edge.config.validate import settings_from
from tests.support.ports import free_port

NAMESPACE = "http://bench.example/opcua"
VARIANTS = 8
Poll = Callable[[], Awaitable[None]]


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def poll_for(poll: Poll, every_s: float, seconds: float) -> tuple[int, float]:
    """Scans done and CPU seconds used."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await poll()
    gc.collect()
    gc.freeze()
    scans, used_s, end_s = 0, cpu_s(), loop.time() + seconds
    while loop.time() < end_s:
        due_s = loop.time() + every_s
        await poll()
        scans += 1
        if every_s:
            await asyncio.sleep(max(0.0, due_s - loop.time()))
    return scans, cpu_s() - used_s


async def read_with_driver(options: argparse.Namespace) -> tuple[int, float]:
    from drivers.opcua import OpcuaKind
    from drivers.opcua.settings import OpcuaDevice
    from edge.clock import SystemClock

    clock = SystemClock()
    tags = [{"name": f"t{i}", "address": f"nsu={NAMESPACE};s=Line4.Temp{i}", "type": "float64"}
            for i in range(options.nodes)]  # fmt: skip
    security = {"security": {"policy": "Basic256Sha256"}, "certificates": Path(options.pki)} if options.pki else {}
    device = settings_from(OpcuaDevice,
        {"name": "bench", "driver": "opcua", "url": options.url, "security": "none", **security,
         "scan_groups": [{"every": "100 ms", "tags": tags}]}
    )  # fmt: skip
    driver = OpcuaKind().driver(device, clock)
    plan = driver.plan(device.scan_groups[0].tags)
    async with driver.connect() as session:

        async def poll() -> None:
            reading = await session.read(plan)
            assert not reading.status

        return await poll_for(poll, options.every_ms / 1e3, options.seconds)


async def read_with_library(options: argparse.Namespace) -> tuple[int, float]:
    from asyncua import Client, ua

    async with Client(options.url) as client:
        index = await client.get_namespace_index(NAMESPACE)
        nodes = [
            ua.ReadValueId(ua.NodeId(f"Line4.Temp{i}", index), ua.AttributeIds.Value) for i in range(options.nodes)
        ]
        parameters = ua.ReadParameters(0.0, ua.TimestampsToReturn.Source, nodes)

        async def poll() -> None:
            results = await client.uaclient.read(parameters)
            assert len([result.Value.Value for result in results]) == options.nodes

        return await poll_for(poll, options.every_ms / 1e3, options.seconds)


async def only_move(options: argparse.Namespace) -> tuple[int, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(options.url.rpartition(":")[2]), limit=2**20)
    request = bytes(moved_bytes(options.nodes)[0])

    async def poll() -> None:
        writer.write(request)
        await reader.readexactly(moved_bytes(options.nodes)[1])

    return await poll_for(poll, options.every_ms / 1e3, options.seconds)


def moved_bytes(nodes: int) -> tuple[int, int]:
    """The size of a request and of its answer."""
    return 100 + 36 * nodes, 64 + 18 * nodes


def run_client(options: argparse.Namespace) -> None:
    read = {"driver": read_with_driver, "library": read_with_library, "bare": only_move}[options.client]
    if options.loop == "uvloop":
        import uvloop

        scans, used_s = uvloop.run(read(options))
    else:
        scans, used_s = asyncio.run(read(options))
    print(json.dumps({"scans": scans, "cpu_s": used_s}))


def prepared_answers(nodes: int) -> list[bytes]:
    """Answers to a read of float64 values with source times, without their first 12 bytes and handle."""
    tail = struct.pack("<IBiBBB", 0, 0, -1, 0, 0, 0)  # Service result and the rest of the header.
    answers = []
    for variant in range(VARIANTS):
        results = b"".join(
            struct.pack("<BBdq", 5, 11, i * 1.5 + variant, 133_000_000_000_000_000 + variant) for i in range(nodes)
        )
        answers.append(tail + struct.pack("<i", nodes) + results + struct.pack("<i", -1))
    return answers


async def serve_bare(options: argparse.Namespace) -> None:
    request_bytes, answer_bytes = moved_bytes(options.nodes)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readexactly(request_bytes)
                writer.write(bytes(answer_bytes))

    async with await asyncio.start_server(answer, "127.0.0.1", options.port, limit=2**20):
        print("ready", flush=True)
        await asyncio.Event().wait()


def trust_each_other(pki: Path) -> None:
    """Certificates of client and server."""
    from drivers.opcua.certificates import Application
    from drivers.opcua.trust import TrustList

    now = datetime.now(UTC)
    TrustList(pki).create(Application("bench", "bench", ("127.0.0.1",)), now, days=1, bits=2048)
    application = Application("server", "bench", ("127.0.0.1",))
    TrustList(pki).trust(TrustList(pki / "server").create(application, now, days=1, bits=2048))


async def secure(server: Any, pki: Path) -> None:
    from asyncua import ua

    await server.set_application_uri("urn:bench:tidegate:server")
    await server.load_certificate(pki / "server/own/cert.der")
    await server.load_private_key(pki / "server/own/key.pem")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])


async def serve(options: argparse.Namespace) -> None:
    from asyncua import Server, ua
    from asyncua.server.uaprocessor import UaProcessor
    from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary

    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{options.port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    if options.pki:
        await secure(server, Path(options.pki))
    index = await server.register_namespace(NAMESPACE)
    for i in range(options.nodes):
        await server.nodes.objects.add_variable(ua.NodeId(f"Line4.Temp{i}", index), f"{index}:Temp{i}", i * 1.5)
    if options.server == "prepared":
        process, answers, turn = UaProcessor.process_message, prepared_answers(options.nodes), iter(range(2**60))

        async def answer(self: Any, sequence: Any, body: Any) -> Any:
            head = body.copy()
            if len(body) < 20 * options.nodes or nodeid_from_binary(head).Identifier != 631:
                return await process(self, sequence, body)
            handle = struct_from_binary(ua.RequestHeader, head).RequestHandle
            start = struct.pack("<BBHqI", 1, 0, 634, 133_000_000_000_000_000, handle)
            message = start + answers[next(turn) % VARIANTS]
            self._transport.write(self._connection.message_to_binary(message, request_id=sequence.RequestId))
            return True

        UaProcessor.process_message = answer
    async with server:
        print("ready", flush=True)
        await asyncio.Event().wait()


@contextmanager
def server_url(options: argparse.Namespace) -> Iterator[str]:
    """The address of a server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "bench.opcua_driver", "--nodes", str(options.nodes), "--server", options.server]
    command += ["--port", str(port), f"--pki={options.pki}"]
    with responder(command, subprocess.DEVNULL) as line:
        assert line == "ready\n"
        yield f"opc.tcp://127.0.0.1:{port}"


def measure(options: argparse.Namespace, url: str, client: str, loop: str) -> float:
    """Microseconds of CPU per value."""
    command = [sys.executable, "-m", "bench.opcua_driver", "--client", client, "--loop", loop, "--url", url]
    names = ("nodes", "seconds", "every-ms", "pki")
    command += [f"--{name}={getattr(options, name.replace('-', '_'))}" for name in names]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    us: float = found["cpu_s"] / found["scans"] / options.nodes * 1e6
    print(f"{client:8} {loop:8} {found['scans']:6} scans {us:8.3f} us per value", flush=True)
    return us


def best(options: argparse.Namespace, server: str, *clients: str) -> list[float]:
    """For each client, microseconds of CPU per value on the better event loop."""
    options.server = server
    with server_url(options) as url:
        return [min(measure(options, url, client, loop) for loop in ("asyncio", "uvloop")) for client in clients]


def compare(options: argparse.Namespace) -> None:
    pace = f"every {options.every_ms} ms" if options.every_ms else "without a pause"
    how = f"{options.nodes} nodes a request, {pace}"
    (bare,) = best(options, "bare", "bare")
    prepared, library = best(options, "prepared", "driver", "library")
    asked, library_asked = best(options, "asyncua", "driver", "library")
    with TemporaryDirectory() as folder:
        options.pki = folder
        trust_each_other(Path(folder))
        (secured,) = best(options, "prepared", "driver")
    command = f"python -m bench.opcua_driver --nodes {options.nodes} --every-ms {options.every_ms}"
    goal = "for comparison"
    if options.nodes >= 1000:
        goal = f"<= {0.6 if options.every_ms else 0.4} us of CPU per value"
    rows = [
        (f"P4 OPC UA polled, prepared answers, {how}", goal,
         f"{prepared:.2f} us (as many bytes only moved {bare:.2f} us, the library alone {library:.1f} us)"),
        (f"P4 OPC UA polled, SignAndEncrypt, {how}", "for comparison", f"{secured:.2f} us"),
        (f"P4 OPC UA polled, asyncua's server, {how}", "for comparison",
         f"{asked:.2f} us (the library alone {library_asked:.1f} us)"),
    ]  # fmt: skip
    store([Row(figure=figure, goal=goal, measured=measured, command=command) for figure, goal, measured in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--every-ms", type=int, default=0, help="scan interval; 0 scans without a pause")
    parser.add_argument("--server", choices=["prepared", "asyncua", "bare"], default="prepared", help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=["driver", "library", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--pki", default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        asyncio.run(serve_bare(options) if options.server == "bare" else serve(options))
    elif options.client:
        run_client(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
