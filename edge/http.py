"""HTTP that only gives: GET and HEAD, one request a connection; for other machines over TLS with client certificates.

Everything has a limit: connections, the bytes and the time of a request, and how long an answer waits for a reader
that does not read. So this is all of HTTP/1.1 that metrics and page need, and all that can reach them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl

from edge.errors import ConfigError
from edge.logs import get_logger
from edge.tls import TlsFiles, load_server_context
from edge.units import is_loopback, listening_address

log = get_logger(__name__)

_REQUEST_BYTES_LIMIT = 8192
_WITHIN_S = 5.0
_UNSENT_BYTES_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; names of headers are in lower case, and of one that is repeated the last counts."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Stream = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered; `stream` writes what follows the body, for as long as it runs."""

    status: str = "200 OK"
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    stream: Stream | None = None


Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is served.

    Attributes:
        name: in the log.
        setting: what sets the address, and `tls_setting` what sets TLS, for messages.
        connections: most of them at once; more wait.
    """

    name: str
    setting: str
    tls_setting: str
    connections: int


@asynccontextmanager
async def serve(
    address: str, answer: Answer, service: Service, tls: TlsFiles | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Answer while the block is open; yields the (host, port) in use.

    Args:
        address: `host:port` with a numeric host, such as `127.0.0.1:9464`; port 0 takes a free one.
        answer: called in the event loop, once for each request.
        service: what this is.
        tls: our certificate, and the authority of those that may ask. The files are read again for each connection.

    Raises:
        ConfigError: the address or a file cannot be used, or other machines can reach the address and `tls` is None.
    """
    try:
        host, port = listening_address(address)
    except ValueError as error:
        raise ConfigError(f"{service.setting}: {error}") from error
    if tls is not None:
        await asyncio.to_thread(load_server_context, tls)
    elif not is_loopback(host):
        remedy = f"add {service.tls_setting}, or choose 127.0.0.1"
        raise ConfigError(f"{service.setting}: other machines can reach {address}: {remedy}")
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"{service.setting}: cannot listen on {address}: {error.strerror}") from error
    listening.setblocking(False)
    with listening:
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(_accept(listening, answer, service, tls), name=service.name)
            try:
                bound = listening.getsockname()
                yield bound[0], bound[1]
            finally:
                accepting.cancel()


async def _accept(listening: socket.socket, answer: Answer, service: Service, tls: TlsFiles | None) -> NoReturn:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as answers:
        free = asyncio.Semaphore(service.connections)
        while True:
            await free.acquire()
            accepted, _ = await loop.sock_accept(listening)
            task = answers.create_task(_serve(accepted, answer, service, tls), name=f"{service.name} answer")
            task.add_done_callback(lambda _: free.release())


async def _serve(accepted: socket.socket, answer: Answer, service: Service, tls: TlsFiles | None) -> None:
    reader = asyncio.StreamReader(_REQUEST_BYTES_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_WITHIN_S):
            context = await asyncio.to_thread(load_server_context, tls) if tls else None
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await _respond(reader, writer, answer)
        finally:
            transport.abort()
    except ConfigError as error:
        # The files were right at the start. Who asks sees the outage, and this says why.
        log.warning(f"{service.name}.refused", reason=str(error))
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        accepted.close()


async def _respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    async with asyncio.timeout(_WITHIN_S):
        request = _parse(await reader.readuntil(b"\r\n\r\n"))
        response = Response("405 Method Not Allowed") if request is None else await answer(request)
        is_head = request is not None and request.method == "HEAD"
        writer.write(_head(response) + (b"" if is_head else response.body))
        await writer.drain()
    if response.stream is not None and not is_head:
        writer.transport.set_write_buffer_limits(_UNSENT_BYTES_LIMIT)
        gone = asyncio.ensure_future(reader.read(1))
        streaming = asyncio.ensure_future(response.stream(writer))
        try:
            await asyncio.wait((gone, streaming), return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                streaming.result()
        finally:
            gone.cancel()
            streaming.cancel()
            await asyncio.gather(gone, streaming, return_exceptions=True)
    async with asyncio.timeout(_WITHIN_S):
        writer.close()
        await writer.wait_closed()


def _parse(head: bytes) -> Request | None:
    """A request, or None where it is none that is served."""
    first, *lines = head.decode("latin-1").split("\r\n")
    match first.split(" ", 2):
        case ["GET" | "HEAD" as method, target, _]:
            path, _, query = target.partition("?")
            fields = (line.partition(":") for line in lines if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            return Request(method, path, dict(parse_qsl(query)), headers)
        case _:
            return None


def _head(response: Response) -> bytes:
    fields = [("Content-Type", response.content_type), *response.headers]
    if response.stream is None:
        fields.append(("Content-Length", str(len(response.body))))
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in fields), "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def send(writer: asyncio.StreamWriter, part: bytes) -> None:
    """Send a part of a stream. Raises TimeoutError where its reader takes nothing for too long."""
    writer.write(part)
    async with asyncio.timeout(_WITHIN_S):
        await writer.drain()
