"""A serial line without hardware: two joined pseudo-terminals, and a recording of every byte."""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path
from typing import Self

from edge.testing.proxy import Recording

_READ_BYTES = 4096


class RecordingLine:
    """Joins two ports. `gateway` and `device` are their paths, which stay the same when the line is plugged in again.

    Attributes:
        recording: `sent` has the bytes of the gateway, `received` those of the device.
    """

    def __init__(self, folder: Path) -> None:
        self.recording = Recording()
        self.gateway, self.device = folder / "gateway", folder / "device"
        self._open: list[int] = []

    async def __aenter__(self) -> Self:
        await self.plug_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.unplug()

    async def plug_in(self) -> None:
        """Make both ports."""
        ours, theirs = await asyncio.to_thread(lambda: (self._port(self.gateway), self._port(self.device)))
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._carry, ours, theirs, self.recording.sent)
        loop.add_reader(theirs, self._carry, theirs, ours, self.recording.received)

    async def unplug(self) -> None:
        """Remove both ports."""
        loop = asyncio.get_running_loop()
        for port in self._open:
            loop.remove_reader(port)
            os.close(port)
        self._open.clear()
        for path in (self.gateway, self.device):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def _port(self, path: Path) -> int:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        path.symlink_to(os.ttyname(slave))
        self._open += [master, slave]  # Ours stays open: otherwise the line would end with each client of the port.
        return master

    def _carry(self, source: int, sink: int, record: bytearray) -> None:
        data = os.read(source, _READ_BYTES)
        record += data
        os.write(sink, data)
