"""The shipped file for nginx in front of the metrics of this machine, in a real nginx."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.health import GatewayStatus, StatusSnapshot, serve_metrics
from tests.peers.nginx.shipped import shipped_proxy
from tests.support.authority import OpensslAuthority
from tests.support.ports import free_port
from tests.support.waiting import until

SHIPPED = Path(__file__).parents[3] / "configs/monitoring/nginx-metrics.conf"


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[tuple[int, OpensslAuthority]]:
    """(port of nginx, the authority of the readers), with metrics behind it."""
    authority, port = OpensslAuthority(tmp_path), free_port()
    authority.issue("metrics", use="serverAuth")
    snapshot = StatusSnapshot(gateway=GatewayStatus(name="line-4"))
    async with (
        serve_metrics("127.0.0.1:0", lambda: snapshot) as (_, behind),
        shipped_proxy(SHIPPED, tmp_path, port, {":9464;": f":{behind};"}),
    ):
        await until(lambda: is_listening(port))
        yield port, authority


def is_listening(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


async def ask(port: int, authority: OpensslAuthority, reader: Path | None, request: str) -> bytes:
    reading, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.context_of(reader))
    writer.write(f"{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reading.read()
    writer.transport.abort()
    return answer


async def test_a_reader_with_a_certificate_gets_metrics_and_nothing_else(proxy: tuple[int, OpensslAuthority]) -> None:
    port, authority = proxy
    reader = authority.issue("prometheus")[0]

    metrics, other, written = [
        await ask(port, authority, reader, request) for request in ("GET /metrics", "GET /", "POST /metrics")
    ]
    stranger = await ask(port, authority, None, "GET /metrics")

    assert metrics.startswith(b"HTTP/1.1 200 OK")
    assert b'tidegate_info{name="line-4"' in metrics
    assert [other.split(b" ")[1], written.split(b" ")[1], stranger.split(b" ")[1]] == [b"404", b"403", b"400"]
    assert b"tidegate_" not in other + written + stranger
