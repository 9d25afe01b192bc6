"""A pseudo-terminal with a hostile device at its other end: a serial line without hardware."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.hostile.liar import AskedT, Liar

_READ_BYTES = 4096
_UNSENT_BYTES_MOST = 4096


class PortLiar(Liar[AskedT]):
    """A hostile device on a line, which has one client after the other and does not notice when they change."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[PortLiar[AskedT]]:
        """Open the port for the duration of the block."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self.device = {"serial": {"port": os.ttyname(slave), "baud": 921600}}
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = _PortTransport(loop, master, reader, protocol)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        lying = asyncio.create_task(self._lie_on(reader, writer, transport))
        self._tasks.add(lying)
        try:
            yield self
        finally:
            self._tasks.clear()
            lying.cancel()
            await asyncio.gather(lying, return_exceptions=True)
            transport.abort()
            os.close(slave)  # Open until now: otherwise the line would end with each client of the port.

    async def _lie_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, transport: _PortTransport
    ) -> None:
        """Continue after a behaviour that was cut off: a line cannot be reconnected."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            try:
                await self._converse(reader, writer, task)
            except asyncio.CancelledError:
                self._lying.discard(task)
                transport.forget()
                if not self._tasks:
                    raise
                task.uncancel()


class _PortTransport(asyncio.Transport):
    """Reads and writes a terminal, which asyncio and uvloop do differently."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, port: int, reader: asyncio.StreamReader,
        protocol: asyncio.StreamReaderProtocol,
    ) -> None:  # fmt: skip
        super().__init__()
        self._loop, self._port, self._reader, self._protocol = loop, port, reader, protocol
        self._unsent = bytearray()
        self._is_closing = self._is_full = False
        loop.add_reader(port, self._readable)

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport.is_closing`."""
        return self._is_closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport.write`."""
        if not self._unsent:
            self._loop.add_writer(self._port, self._writable)
        self._unsent += data
        self._apply_back_pressure()

    def abort(self) -> None:
        """See `asyncio.WriteTransport.abort`."""
        self._is_closing = True
        self._loop.remove_reader(self._port)
        self._loop.remove_writer(self._port)
        os.close(self._port)

    def forget(self) -> None:
        """Drop the bytes that are not sent yet."""
        self._unsent.clear()
        self._loop.remove_writer(self._port)
        self._apply_back_pressure()

    def _readable(self) -> None:
        self._reader.feed_data(os.read(self._port, _READ_BYTES))

    def _writable(self) -> None:
        try:
            sent = os.write(self._port, self._unsent[:_READ_BYTES])
        except BlockingIOError:
            return
        del self._unsent[:sent]
        self._apply_back_pressure()
        if not self._unsent:
            self._loop.remove_writer(self._port)

    def _apply_back_pressure(self) -> None:
        """Pause the writers while too much is unsent."""
        was_full, self._is_full = self._is_full, len(self._unsent) > _UNSENT_BYTES_MOST
        if self._is_full and not was_full:
            self._protocol.pause_writing()
        elif was_full and not self._is_full:
            self._protocol.resume_writing()
