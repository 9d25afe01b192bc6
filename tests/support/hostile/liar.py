"""A TCP server with the hostile behaviour of a test, until it has to behave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar


class Asked(Protocol):
    """One request as a device receives it."""

    @property
    def answer(self) -> bytes:
        """The right answer, with the values of the time of the request; empty where a request has no answer."""
        ...


_UNSENT_BYTES = 65_536

AskedT = TypeVar("AskedT", bound=Asked)
Writer = asyncio.StreamWriter
Lie = Callable[[list[AskedT], Writer], Awaitable[None]]
"""What a device does about the newest of the requests on a connection."""
Greet = Callable[[Writer], Awaitable[None]]
"""What it does when a client connects."""
Listen = Callable[[asyncio.StreamReader], AsyncIterator[AskedT]]
"""Parses the requests of a connection."""


class Liar(Generic[AskedT]):
    """See `tests.support.hostile.behaviour.Peer`."""

    def __init__(self, listen: Listen[AskedT], lie: Lie[AskedT], greet: Greet | None = None) -> None:
        self._listen = listen
        self._lie: Lie[AskedT] | None = lie
        self._greet = greet
        self._tasks: set[asyncio.Task[None]] = set()
        self._lying: set[asyncio.Task[None]] = set()
        self.device: Mapping[str, Any] = {}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Liar[AskedT]]:
        """Listen for the duration of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.device = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
        try:
            yield self
        finally:
            server.close()
            await _end(self._tasks)

    def behave(self) -> None:
        """See `Peer.behave`. Connections in the middle of a hostile answer are cut off."""
        self._lie = self._greet = None
        for task in self._lying:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # Keep the buffer of the kernel small: it is not under test.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)
        try:
            await self._converse(reader, writer, task)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client has gone, or is cut off.
        finally:
            self._tasks.discard(task)
            self._lying.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: Writer, task: asyncio.Task[None]) -> None:
        if self._greet is not None:
            await self._greet(writer)
        asked: list[AskedT] = []
        async for one in self._listen(reader):
            asked.append(one)
            if self._lie is None:
                writer.write(one.answer)
                continue
            self._lying.add(task)
            await self._lie(asked, writer)
            self._lying.discard(task)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def started(
    listen: Callable[[], Listen[AskedT]], lie: Lie[AskedT], greet: Greet | None = None
) -> Callable[[Path], AbstractAsyncContextManager[Liar[AskedT]]]:
    """The `start` of a behaviour of one `lie`; `listen` makes a new parser for each peer."""

    def start(folder: Path) -> AbstractAsyncContextManager[Liar[AskedT]]:
        return Liar(listen(), lie, greet).serve()

    return start


# Hostile behaviours of connections, for any protocol.


def answer(make: Callable[[AskedT], bytes]) -> Lie[AskedT]:
    """Answers each request with the bytes from `make`."""

    async def lie(asked: list[AskedT], writer: Writer) -> None:
        writer.write(make(asked[-1]))

    return lie


def says(data: bytes) -> Lie[Any]:
    """Answers each request with the same bytes."""
    return answer(lambda _: data)


async def say_nothing(asked: list[Any], writer: Writer) -> None:
    """Answers nothing."""


async def close_at_once(asked: list[Any], writer: Writer) -> None:
    """Closes after the first request."""
    writer.close()


async def reset_within(asked: list[Any], writer: Writer) -> None:
    """Resets the connection in the middle of an answer."""
    writer.write(asked[-1].answer[:11])
    reset(writer)


async def one_byte_per_write(asked: list[Any], writer: Writer) -> None:
    """Sends the right answer byte by byte."""
    for byte in asked[-1].answer:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)


def reset(writer: Writer) -> None:
    """End a connection by RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def pour(writer: Writer, chunk: Callable[[], bytes]) -> None:
    """Send without end, as fast as the client takes it and the loop has time for others."""
    while True:
        writer.write(chunk())
        await writer.drain()
        await asyncio.sleep(0)
