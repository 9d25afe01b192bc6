"""The endpoint for Prometheus: metrics are read from a snapshot at each request, so that scans pay nothing for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

from edge.errors import ConfigError
from edge.health.snapshot import StatusSnapshot
from edge.logs import get_logger
from edge.tls import TlsFiles, load_server_context
from edge.units import is_loopback, listening_address

log = get_logger(__name__)

_REQUEST_BYTES_LIMIT = 8192
_REQUEST_WITHIN_S = 5.0
# Prometheus needs one. More would be memory and file descriptors in the hands of whoever reaches the port.
_CONNECTIONS_LIMIT = 16


@asynccontextmanager
async def serve_metrics(
    address: str, snapshot: Callable[[], StatusSnapshot], tls: TlsFiles | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Answer `GET /metrics` while the block is open; yields the (host, port) in use.

    Args:
        address: `host:port` with a numeric host, such as `127.0.0.1:9464`; port 0 takes a free one.
        snapshot: called in the event loop, once for each answer.
        tls: our certificate, and the authority of those that may ask. The files are read again for each connection.

    Raises:
        ConfigError: the address or a file cannot be used, or other machines can reach the address and `tls` is None.
    """
    try:
        host, port = listening_address(address)
    except ValueError as error:
        raise ConfigError(f"status.metrics: {error}") from error
    if tls is not None:
        await asyncio.to_thread(load_server_context, tls)
    elif not is_loopback(host):
        raise ConfigError(f"status.metrics: other machines can reach {address}: add status.tls, or choose 127.0.0.1")
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"status.metrics: cannot listen on {address}: {error.strerror}") from error
    listening.setblocking(False)
    with listening:
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(_accept(listening, snapshot, tls), name="metrics")
            try:
                bound = listening.getsockname()
                yield bound[0], bound[1]
            finally:
                accepting.cancel()


async def _accept(listening: socket.socket, snapshot: Callable[[], StatusSnapshot], tls: TlsFiles | None) -> NoReturn:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as answers:
        free = asyncio.Semaphore(_CONNECTIONS_LIMIT)
        while True:
            await free.acquire()
            accepted, _ = await loop.sock_accept(listening)
            task = answers.create_task(_answer(accepted, snapshot, tls), name="metrics answer")
            task.add_done_callback(lambda _: free.release())


async def _answer(accepted: socket.socket, snapshot: Callable[[], StatusSnapshot], tls: TlsFiles | None) -> None:
    reader = asyncio.StreamReader(_REQUEST_BYTES_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        async with asyncio.timeout(_REQUEST_WITHIN_S):
            loop = asyncio.get_running_loop()
            context = await asyncio.to_thread(load_server_context, tls) if tls else None
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _respond(request, snapshot))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
            finally:
                transport.abort()
    except ConfigError as error:
        # The files were right at the start. Prometheus shows the outage, and this says why.
        log.warning("metrics.refused", reason=str(error))
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        accepted.close()


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
