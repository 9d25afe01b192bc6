"""What the page's server answers, to whom, and what it costs who does not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest

from edge import http
from edge.errors import ConfigError
from edge.health import DeviceStatus, GatewayStatus, GroupStatus, StatusServer, StatusSnapshot
from edge.page.server import SERVICE, STREAMS_LIMIT, PageServer
from edge.page.source import Source, load_what_reads_status
from edge.tls import TlsFiles
from tests.support.authority import OpensslAuthority
from tests.support.waiting import until


@asynccontextmanager
async def served(
    path: Path, snapshot: StatusSnapshot, *names: str, tls: TlsFiles | None = None
) -> AsyncIterator[tuple[int, Source, PageServer]]:
    """A page of one gateway, whose status is known already, and its port."""
    source = Source("gateway/line-4", path / "status.sock", None)
    server = await asyncio.to_thread(PageServer, {"gateway/line-4": source}, names)
    async with (
        StatusServer(path / "status.sock", lambda: snapshot),
        http.serve("127.0.0.1:0", server.answer, SERVICE, tls) as (_, port),
    ):
        asking = asyncio.ensure_future(source.run())
        await until(lambda: source.answer)
        try:
            yield port, source, server
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


def status(devices: int = 1) -> StatusSnapshot:
    group = GroupStatus(name="1 s", every_ns=10**9, tags=3, scans=5, due_scans=5)
    return StatusSnapshot(
        gateway=GatewayStatus(name="line-4", pid=1),
        devices=tuple(
            DeviceStatus(name=f"device-{number:04}", driver="simulator", state="up", scan_groups=(group,))
            for number in range(devices)
        ),
    )


async def ask(port: int, head: str, host: str = "localhost") -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of an answer to a head of a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    first, *more = head.split("\n")
    writer.write("\r\n".join([f"{first} HTTP/1.1", f"Host: {host}", *more, "", ""]).encode())
    answer = await reader.read()
    writer.close()
    top, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = top.decode().split("\r\n")
    return line.split(" ")[1], dict(field.split(": ", 1) for field in fields), body


async def test_every_answer_keeps_browsers_from_other_origins(tmp_path: Path) -> None:
    async with served(tmp_path, status()) as (port, _, _):
        for target in ("/", "/page.js", "/status", "/nothing"):
            _, headers, _ = await ask(port, f"GET {target}")
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    ("head", "host", "code"),
    [
        ("GET /", "localhost:9480", "200"),
        ("GET /", "127.0.0.1", "200"),
        ("GET /", "[::1]:9480", "200"),
        ("GET /", "line-4.plant.example", "200"),
        ("GET /status", "evil.example", "403"),
        ("GET /", "localhost.evil.example", "403"),
        ("GET /", "", "403"),
        ("GET /", "[", "403"),
        ("GET /status\nOrigin: http://evil.example", "localhost", "403"),
        ("GET /status\nOrigin: null", "localhost", "403"),
        ("GET /status\nOrigin: http://localhost:9480", "localhost:9480", "200"),
        ("GET /status\nSec-Fetch-Site: cross-site", "localhost", "403"),
        ("GET /\nSec-Fetch-Site: cross-site", "localhost", "200"),  # A link from another page.
        ("POST /status", "localhost", "405"),
        ("DELETE /", "localhost", "405"),
        ("HEAD /events", "localhost", "200"),
        ("GET /../../etc/passwd", "localhost", "404"),
        ("GET /status?of=other", "localhost", "404"),
        ("GET /values?tags=old&rows=0-40", "localhost", "409"),
    ],
)
async def test_who_is_answered(tmp_path: Path, head: str, host: str, code: str) -> None:
    """A name that an attacker makes to mean this machine is refused, and so is what another site's script asks."""
    async with served(tmp_path, status(), "Line-4.plant.example") as (port, _, _):
        answer = await ask(port, head, host)

    assert answer[0] == code


async def test_the_status_is_what_the_command_prints(tmp_path: Path) -> None:
    snapshot = status()
    async with served(tmp_path, snapshot) as (port, _, _):
        _, headers, body = await ask(port, "GET /status?of=gateway/line-4")
    answer = orjson.loads(body)

    assert headers["Content-Type"] == "application/json"
    assert answer.pop("verdict") == "OK"
    assert answer.pop("problems") == []
    assert answer == orjson.loads(snapshot.to_json())


async def test_who_never_reads_is_dropped_and_the_others_go_on(tmp_path: Path) -> None:
    """Rows of 2,000 devices that change each second are more than sockets hold."""
    async with served(tmp_path, status(2000)) as (port, source, server):
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.setblocking(False)
            await asyncio.get_running_loop().sock_connect(idle, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(idle, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: server._streams)
            async with asyncio.timeout(20):
                while server._streams:
                    source.version += 2  # All rows again, and again.
                    source.status_notice.tell()
                    assert (await ask(port, "GET /status"))[0] == "200"
                    await asyncio.sleep(0.05)


async def test_more_streams_than_there_may_be_are_refused_with_a_sentence(tmp_path: Path) -> None:
    async with served(tmp_path, status()) as (port, _, _):
        open_ = []
        for _ in range(STREAMS_LIMIT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"event: overview")
            open_.append(writer)
        code, _, body = await ask(port, "GET /events")
        open_.pop().close()

        assert code == "503"
        assert b"Too many browsers" in body
        async with asyncio.timeout(10):
            while (await ask(port, "HEAD /events"))[0] != "200":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for writer in open_:
            writer.transport.abort()


async def test_other_machines_are_served_over_tls_with_a_certificate_only(tmp_path: Path) -> None:
    authority = await asyncio.to_thread(OpensslAuthority, tmp_path)
    certificate, key = await asyncio.to_thread(lambda: authority.issue("page", use="serverAuth"))
    files = TlsFiles(ca=authority.path, certificate=certificate, key=key)
    async with served(tmp_path, status(), tls=files) as (port, _, _):
        context = authority.context_of((await asyncio.to_thread(authority.issue, "browser"))[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.context_of(None))
        answer = b""
        with suppress(OSError):  # However TLS says it.
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = await reader.read()
        writer.transport.abort()
        assert answer == b""

    with pytest.raises(ConfigError, match="other machines can reach"):
        async with http.serve("0.0.0.0:0", (await asyncio.to_thread(PageServer, {})).answer, SERVICE):
            pass


async def test_a_socket_that_is_not_ours_is_said(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    await asyncio.to_thread(load_what_reads_status)
    other = await asyncio.start_unix_server(answer, tmp_path / "status.sock")
    source = Source("gateway/line-4", tmp_path / "status.sock", None)
    asking = asyncio.ensure_future(source.run())
    await until(lambda: source.away)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    other.close()
    await other.wait_closed()

    assert source.away is not None
    assert source.away[1].endswith("what answers there is not a Tidegate status socket")
