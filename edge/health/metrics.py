"""The endpoint for Prometheus: metrics are read from a snapshot at each request, so that scans pay nothing for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

from edge.errors import ConfigError
from edge.health.snapshot import StatusSnapshot

_REQUEST_BYTES_LIMIT = 8192
_REQUEST_WITHIN_S = 5.0


@asynccontextmanager
async def serve_metrics(
    address: str, snapshot: Callable[[], StatusSnapshot], *, beyond_loopback: bool = False
) -> AsyncIterator[tuple[str, int]]:
    """Answer `GET /metrics` while the block is open; yields the (host, port) in use.

    Args:
        address: `host:port` with a numeric host, such as `127.0.0.1:9464`; port 0 takes a free one.
        snapshot: called in the event loop, once for each answer.
        beyond_loopback: allow an address that other machines can reach, and read everything from.

    Raises:
        ConfigError: the address cannot be used, or other machines can reach it and `beyond_loopback` is not set.
    """
    host, port = _parse(address, beyond_loopback=beyond_loopback)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_WITHIN_S):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _respond(request, snapshot))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=_REQUEST_BYTES_LIMIT)
    except OSError as error:
        raise ConfigError(f"status.metrics: cannot listen on {address}: {error.strerror}") from error
    async with server:
        bound = server.sockets[0].getsockname()
        yield bound[0], bound[1]


def _parse(address: str, *, beyond_loopback: bool) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    try:
        parsed = ip_address(host.strip("[]"))
    except ValueError:
        parsed = None
    if parsed is None or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f'status.metrics: needs an address such as "127.0.0.1:9464", got {address!r}')
    if not (parsed.is_loopback or beyond_loopback):
        raise ConfigError(f"status.metrics: {address} can be reached from other machines; listen on 127.0.0.1")
    return str(parsed), int(port)


async def _respond(request: bytes, snapshot: Callable[[], StatusSnapshot]) -> bytes:
    match request.split(b" ", 2):
        case [b"GET" | b"HEAD" as method, b"/metrics", _]:
            # The text of a thousand devices takes a while to format, and the event loop has scans to start.
            body = await asyncio.to_thread(_text, snapshot())
            return _response(b"200 OK", body, method)
        case [b"GET" | b"HEAD" as method, _, _]:
            return _response(b"404 Not Found", b"metrics are at /metrics\n", method)
        case _:
            return _response(b"405 Method Not Allowed", b"", b"GET")


def _response(status: bytes, body: bytes, method: bytes) -> bytes:
    head = (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body))
    )
    return head if method == b"HEAD" else head + body


def _text(snapshot: StatusSnapshot) -> bytes:
    # Imported with the first request: a gateway without metrics does not pay for the library.
    from edge.health.families import text_of

    return text_of(snapshot)
