"""Servers whose URL has a path: found, and answered with what to write, where the path is missing."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from drivers.opcua import OpcuaKind
from drivers.opcua.discovery import discover
from edge.clock import SystemClock
from edge.driver import Target
from edge.errors import DeviceRefused
from tests.peers.opcua.plant import Server, device_at, tag_of

BAD_TCP_ENDPOINT_URL_INVALID = 0x80830000


async def pause() -> None:
    """Between requests: not at all."""


@asynccontextmanager
async def strict(upstream: int, *paths: str, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """The way to a server that knows only URLs with one of these paths, as its Hello says (OPC 10000-6, 7.1.2.3)."""
    tasks = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.readexactly(8)
        hello += await reader.readexactly(struct.unpack_from("<I", hello, 4)[0] - 8)
        if urlsplit(hello[32:].decode()).path not in paths:
            writer.write(b"ERRF" + struct.pack("<IIi", 16, BAD_TCP_ENDPOINT_URL_INVALID, -1))
            await writer.drain()
            writer.close()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", upstream)
        forth.write(hello)
        tasks.update({asyncio.ensure_future(pipe(reader, forth)), asyncio.ensure_future(pipe(back, writer))})

    front = await asyncio.start_server(accept, host, port)
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        front.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_server_with_a_path_is_found_and_its_path_told(server: Server) -> None:
    async with strict(server.port, "/plant", "/discovery") as port:
        root = f"opc.tcp://127.0.0.1:{port}"
        (found,) = await discover(Target("127.0.0.1", (port,)), pause)
        (by_url,) = await discover(Target("127.0.0.1", (port,), f"{root}/plant"), pause)

    assert found.device["url"] == by_url.device["url"] == f"{root}/plant"
    assert found.device["security"] != "none"
    assert found.details[0] == ("path", f"the server does not know {root}; it offers {root}/plant")
    assert found.details[1:] == by_url.details


@pytest.mark.parametrize("port", [4840, 49320, 62541, 4862, 53530])
async def test_servers_of_common_products_are_found_without_a_port(server: Server, port: int) -> None:
    host = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"  # An address that no other test uses.
    async with strict(server.port, "/plant", "/discovery", host=host, port=port):
        (found,) = await discover(Target(host), pause)

    assert found.device["url"] == f"opc.tcp://{host}:{port}/plant"


async def test_a_server_that_tells_its_path_nowhere_is_a_server_all_the_same(server: Server) -> None:
    async with strict(server.port, "/elsewhere") as port:
        (found,) = await discover(Target("127.0.0.1", (port,)), pause)

    assert (found.port, found.what, found.device["url"]) == (port, "an OPC UA server", f"opc.tcp://127.0.0.1:{port}")
    assert "its path is missing or another" in found.details[0][1]


@pytest.mark.parametrize(("paths", "says"), [(("/discovery",), "write in `url` what it offers: opc.tcp://127.0.0.1"),
                                             (("/elsewhere",), "it is in the server's own settings")])  # fmt: skip
async def test_a_session_with_a_wrong_path_says_what_to_write(
    server: Server, paths: tuple[str, ...], says: str
) -> None:
    async with strict(server.port, *paths) as port:
        driver = OpcuaKind().driver(device_at(port, [tag_of("Int32", "int32")]), SystemClock())
        with pytest.raises(DeviceRefused) as refused:
            async with driver.connect():
                pass

    assert f"an OPC UA server is at 127.0.0.1:{port}, and does not know" in str(refused.value)
    assert says in str(refused.value)


async def test_a_host_and_a_port_are_a_url(server: Server) -> None:
    device = device_at(server.port, [tag_of("Int32", "int32")], url=f"127.0.0.1:{server.port}/plant")
    driver = OpcuaKind().driver(device, SystemClock())
    plan = driver.plan(device.scan_groups[0].tags)

    async with driver.connect() as session:
        reading = await session.read(plan)

    assert device.url == f"opc.tcp://127.0.0.1:{server.port}/plant"
    assert (reading.status, reading.vectors[0].tolist()) == ((), [-32])


async def test_a_url_of_another_protocol_finds_nothing() -> None:
    assert await discover(Target("127.0.0.1", (1,), "http://127.0.0.1:1"), pause) == []
