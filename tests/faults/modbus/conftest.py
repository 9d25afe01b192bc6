from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Asked:
    """One request as a device sees it; holding register i holds i."""

    transaction: int
    unit: int
    function: int
    first: int
    count: int

    def frame(
        self,
        *,
        transaction: int | None = None,
        protocol: int = 0,
        length: int | None = None,
        unit: int | None = None,
        function: int | None = None,
        byte_count: int | None = None,
        data: bytes | None = None,
    ) -> bytes:
        """The right answer, but for what is said otherwise."""
        body = struct.pack(f">{self.count}H", *range(self.first, self.first + self.count)) if data is None else data
        return struct.pack(
            ">HHHBBB",
            self.transaction if transaction is None else transaction,
            protocol,
            3 + len(body) if length is None else length,
            self.unit if unit is None else unit,
            self.function if function is None else function,
            len(body) if byte_count is None else byte_count,
        ) + body  # fmt: skip

    def exception(self, code: int) -> bytes:
        return struct.pack(">HHHBBB", self.transaction, 0, 3, self.unit, self.function | 0x80, code)


Behave = Callable[[list[Asked], asyncio.StreamWriter], Awaitable[None]]
"""What a device does about the newest request, knowing all those before it on this connection."""


class HostileDevice:
    """A TCP server that does what a test says."""

    def __init__(self, behave: Behave, greet: Callable[[asyncio.StreamWriter], Awaitable[None]] | None) -> None:
        self.behave = behave
        self._greet = greet
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        asked: list[Asked] = []
        try:
            if self._greet is not None:
                await self._greet(writer)
            while True:
                transaction, _, _, unit, function, first, count = struct.unpack(
                    ">HHHBBHH", await reader.readexactly(12)
                )
                asked.append(Asked(transaction, unit, function, first, count))
                await self.behave(asked, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.transport.abort()


MakeHostile = Callable[..., AbstractAsyncContextManager[HostileDevice]]


@pytest.fixture
def hostile() -> MakeHostile:
    @asynccontextmanager
    async def make(
        behave: Behave, greet: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    ) -> AsyncIterator[HostileDevice]:
        device = HostileDevice(behave, greet)
        server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
        device.port = server.sockets[0].getsockname()[1]
        try:
            yield device
        finally:
            server.close()
            for task in device.tasks:
                task.cancel()
            await asyncio.gather(*device.tasks, return_exceptions=True)

    return make
