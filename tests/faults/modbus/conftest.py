from __future__ import annotations

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from drivers.modbus.framing import Rtu, crc16


@dataclass(frozen=True)
class Asked:
    """One request as a device receives it; holding register i has the value i."""

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
        """The right answer, except for the arguments."""
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
"""What a device does about the newest of the requests on a connection."""


class HostileDevice:
    """A TCP server whose behaviour a test gives."""

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


@dataclass(frozen=True)
class LineRequest:
    """One RTU request as a unit receives it; holding register i has the value i."""

    unit: int
    function: int
    first: int
    count: int
    frame: bytes

    def answer(self, *, unit: int | None = None, function: int | None = None, count: int | None = None) -> bytes:
        """The right answer, except for the arguments."""
        data = struct.pack(f">{self.count}H", *range(self.first, self.first + self.count))
        head = (self.unit if unit is None else unit, self.function if function is None else function,
                len(data) if count is None else count)  # fmt: skip
        return Rtu().frame(bytes(head) + data)

    def refusal(self, code: int) -> bytes:
        return Rtu().frame(bytes((self.unit, self.function | 0x80, code)))


Send = Callable[[bytes], None]
OnLine = Callable[[LineRequest, Send], Awaitable[None]]
"""What a unit does about one request; as a real unit, it begins the next one after that."""


class HostileLine:
    """Units on a serial line, whose behaviour a test gives; each processes one request after the other.

    Attributes:
        asked: every request that was received, in order.
        port: the device file that a gateway opens.
    """

    def __init__(self, port: Path, units: Mapping[int, OnLine]) -> None:
        self.port = port
        self.asked: list[LineRequest] = []
        self._units = dict(units)
        self._queues: dict[int, asyncio.Queue[LineRequest]] = {unit: asyncio.Queue() for unit in units}
        self._received = bytearray()
        self._tasks: list[asyncio.Task[None]] = []
        self._send: Send = lambda data: None
        self._open: list[int] = []
        self._received_one = asyncio.Event()

    async def until_asked(self, times: int) -> None:
        """Wait until so many requests were received."""
        while len(self.asked) < times:
            self._received_one.clear()
            await self._received_one.wait()

    async def __aenter__(self) -> Self:
        self.plug_in()
        self._tasks = [asyncio.create_task(self._work(unit)) for unit in self._units]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.unplug()

    def plug_in(self) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._open = [master, slave]
        self.port.symlink_to(os.ttyname(slave))
        self._send = partial(os.write, master)
        asyncio.get_running_loop().add_reader(master, self._read, master)

    def unplug(self) -> None:
        if self._open:
            asyncio.get_running_loop().remove_reader(self._open[0])
            for port in self._open:
                os.close(port)
            self._open = []
            self.port.unlink()

    def _read(self, master: int) -> None:
        self.feed(os.read(master, 4096), self._send)

    def feed(self, data: bytes, send: Send) -> None:
        self._send = send
        self._received += data
        while len(self._received) >= 8:
            frame = bytes(self._received[:8])
            del self._received[:8]
            assert crc16(frame[:6]) == frame[6:]
            request = LineRequest(*struct.unpack(">BBHH", frame[:6]), frame)
            self.asked.append(request)
            self._received_one.set()
            if request.unit in self._queues:
                self._queues[request.unit].put_nowait(request)

    def _answer(self, data: bytes) -> None:
        self._send(data)  # Over the connection of that time, not of the request's.

    async def _work(self, unit: int) -> None:
        while True:
            request = await self._queues[unit].get()
            await self._units[unit](request, self._answer)


MakeLine = Callable[[Mapping[int, OnLine]], HostileLine]


@pytest.fixture
def hostile_line(tmp_path: Path) -> MakeLine:
    return lambda units: HostileLine(tmp_path / "port", units)
