"""The server of a controller: TCP for everything, UDP on the same port for List Identity."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, cast

from drivers.ethernetip.simulator.connections import ConnectionTable
from drivers.ethernetip.simulator.controller import Controller
from drivers.ethernetip.simulator.encapsulation import (
    HEADER,
    LENGTH_MOST,
    Encapsulation,
    SessionClosed,
    sessionless_answer,
)
from drivers.ethernetip.simulator.router import Router

_BINDS_MOST = 20


class LogixServer:
    """Serves one controller on one address, while its block is open."""

    def __init__(self, controller: Controller, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.controller = controller
        self.host, self.port = host, port
        self.pool = ConnectionTable(controller)
        self.router = Router(controller)
        self.transports: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self._leave: Callable[[], None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        return self.host, self.port

    async def start(self) -> None:
        """Start listening, after a stop on the same port."""
        loop = asyncio.get_running_loop()
        for attempt in range(_BINDS_MOST):
            self._server = await loop.create_server(lambda: _Client(self), self.host, self.port, reuse_address=True)
            port = self._server.sockets[0].getsockname()[1]
            try:
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(self.host, port)
                )
            except OSError:
                self._server.close()
                if self.port or attempt == _BINDS_MOST - 1:
                    raise
                continue  # UDP has another server on this port: try another port for both.
            self.port = port
            break
        self._leave = self.controller.serve(self._soon(loop, self.cut), self._soon(loop, self.pool.forget))

    async def stop(self) -> None:
        """Stop listening, and reset every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._leave is not None:
            self._leave()
        server.close()
        if self._datagrams is not None:
            self._datagrams.abort()
        self.cut()
        await self._idle.wait()

    def cut(self) -> None:
        """Reset every TCP connection."""
        for transport in list(self.transports):
            transport.abort()

    def joined(self, transport: asyncio.Transport) -> None:
        """A client connected."""
        self.transports.add(transport)
        self._idle.clear()

    def left(self, transport: asyncio.Transport) -> None:
        """A client's connection ended."""
        self.transports.discard(transport)
        if not self.transports:
            self._idle.set()

    def _soon(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Callable[[], None]:
        """A function that calls `act` in the loop of the server, from any thread."""

        def ask() -> None:
            loop.call_soon_threadsafe(act)

        return ask


class _Client(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, server: LogixServer) -> None:
        self._server = server
        self._encapsulation = Encapsulation(server.controller, server.pool, server.router, server.address)
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.joined(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See `asyncio.Protocol`."""
        self._encapsulation.connections.close()
        if self._transport is not None:
            self._server.left(self._transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        assert self._transport is not None
        received = self._received + data if self._received else data
        at = 0
        while len(received) - at >= HEADER.size:
            length = int.from_bytes(received[at + 2 : at + 4], "little")
            if length > LENGTH_MOST:
                self._transport.abort()
                return
            end = at + HEADER.size + length
            if end > len(received):
                break
            self._take(received[at:end])
            at = end
        self._received = received[at:]

    def _take(self, packet: bytes) -> None:
        controller = self._server.controller
        if controller.is_silent:
            controller.unanswered += 1
            return
        if late_s := controller.answer_late_s:
            asyncio.get_running_loop().call_later(late_s, self._answer, packet)
        else:
            self._answer(packet)

    def _answer(self, packet: bytes) -> None:
        controller = self._server.controller
        try:
            answer = self._encapsulation.answer(packet)
        except SessionClosed:
            if self._transport is not None:
                self._transport.close()
            return
        if answer is not None and controller.distort is not None:
            answer = controller.distort(answer)
        if answer is not None:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


class _Datagrams(asyncio.DatagramProtocol):
    """List Identity by UDP, for clients that discover devices."""

    def __init__(self, server: LogixServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """See `asyncio.DatagramProtocol`."""
        if len(data) < HEADER.size or self._server.controller.is_silent or self._transport is None:
            return
        command, _, session, _, context, _ = HEADER.unpack_from(data)
        found = sessionless_answer(self._server.controller, self._server.address, command)
        if found is not None:
            self._transport.sendto(HEADER.pack(command, len(found), session, 0, context, 0) + found, addr)


@contextmanager
def in_thread(*controllers: Controller, host: str = "127.0.0.1") -> Iterator[tuple[LogixServer, ...]]:
    """Serve from a separate thread, for blocking clients."""
    servers = tuple(LogixServer(controller, host=host) for controller in controllers)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="logix")
    thread.start()

    async def each(verb: str) -> None:
        for server in servers:
            await getattr(server, verb)()

    try:
        asyncio.run_coroutine_threadsafe(each("start"), loop).result()
        yield servers
    finally:
        asyncio.run_coroutine_threadsafe(each("stop"), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
