"""A TCP proxy on loopback, and one that records both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

Pump = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""Carries the bytes of one direction until they end."""


@dataclass
class Recording:
    """The bytes of one connection, by direction."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class Proxy:
    """A proxy for the server at `host` and `port`; a subclass says how bytes are carried."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self._upstream = host, port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_idle(self) -> bool:
        """Whether no connection is open."""
        return not self._tasks

    def cut(self) -> None:
        """Close every connection."""
        for task in self._tasks:
            task.cancel()

    def accept(self) -> tuple[Pump, Pump]:
        """For a new connection what carries its bytes to the server, and back. The first that ends, ends it."""
        raise NotImplementedError

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up, down = self.accept()
        server: asyncio.StreamWriter | None = None
        try:
            answers, server = await asyncio.open_connection(*self._upstream)
            directions = [asyncio.ensure_future(up(reader, server)), asyncio.ensure_future(down(answers, writer))]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # The server is down, or the test has ended.
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            if server is not None:
                server.transport.abort()


class RecordingProxy(Proxy):
    """A proxy that keeps what it carries; `sent` is from the client, `received` from the server."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.recordings: list[Recording] = []

    def accept(self) -> tuple[Pump, Pump]:
        """See `Proxy.accept`."""
        recording = Recording()
        self.recordings.append(recording)
        return partial(_record, recording.sent), partial(_record, recording.received)


async def _record(recorded: bytearray, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        recorded += data
        writer.write(data)
        await writer.drain()
