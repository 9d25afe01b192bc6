"""The shipped file for nginx in front of the page, in a real nginx."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge import http
from edge.health import GatewayStatus, StatusServer, StatusSnapshot
from edge.page.server import SERVICE, PageServer
from edge.page.source import Source
from tests.peers.nginx.shipped import shipped_proxy
from tests.support.authority import OpensslAuthority
from tests.support.ports import free_port
from tests.support.waiting import until

SHIPPED = Path(__file__).parents[3] / "configs/monitoring/nginx-page.conf"
NAME = "line-4.example"


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[tuple[int, OpensslAuthority]]:
    """(port of nginx, the authority of the browsers), with a page behind it."""
    authority, port = OpensslAuthority(tmp_path), free_port()
    authority.issue("page", use="serverAuth")
    snapshot = StatusSnapshot(gateway=GatewayStatus(name="line-4"))
    source = Source("gateway/line-4", tmp_path / "status.sock", None)
    server = await asyncio.to_thread(PageServer, {"gateway/line-4": source}, [NAME])
    async with (
        StatusServer(tmp_path / "status.sock", lambda: snapshot),
        http.serve("127.0.0.1:0", server.answer, SERVICE) as (_, behind),
    ):
        asking = asyncio.ensure_future(source.run())
        try:
            async with shipped_proxy(SHIPPED, tmp_path, port, {":9480;": f":{behind};"}):
                await until(lambda: source.answer)
                async with asyncio.timeout(20):
                    while not (await begin(port, authority, None, NAME, "GET /")).startswith(b"HTTP/1.1 400"):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                yield port, authority
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def begin(port: int, authority: OpensslAuthority, browser: Path | None, name: str, request: str) -> bytes:
    """The answer, up to the end of the first event of a stream; empty where there is none."""
    context = authority.context_of(browser)
    context.check_hostname = False
    try:
        reading, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    except OSError:
        return b""
    try:
        writer.write(f"{request} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        return await reading.readuntil(b"event: overview") if "/events" in request else await reading.read()
    except (OSError, ssl.SSLError):
        return b""
    finally:
        writer.transport.abort()


async def test_browsers_with_a_certificate_get_the_page_and_its_events(proxy: tuple[int, OpensslAuthority]) -> None:
    port, authority = proxy
    browser, _ = authority.issue("browser")

    for request, line in {"GET /": b"200 OK", "GET /events": b"200 OK", "GET /status": b"200 OK",
                          "POST /": b"403 Forbidden"}.items():  # fmt: skip
        assert (await begin(port, authority, browser, NAME, request)).startswith(b"HTTP/1.1 " + line), request
    page = await begin(port, authority, browser, NAME, "GET /")
    assert b"Content-Security-Policy: default-src 'none'" in page


async def test_no_certificate_or_another_name_is_refused(proxy: tuple[int, OpensslAuthority]) -> None:
    port, authority = proxy
    browser, _ = authority.issue("browser")

    assert (await begin(port, authority, None, NAME, "GET /")).startswith(b"HTTP/1.1 400")
    assert await begin(port, authority, browser, "evil.example", "GET /") == b""
