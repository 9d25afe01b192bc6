"""Units on a serial line: a pseudo-terminal, which the master opens as its port."""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import suppress
from pathlib import Path

from drivers.modbus.codec import READ_DEVICE_IDENTIFICATION
from drivers.modbus.framing import crc16
from drivers.modbus.simulator.device import SimulatedDevice, SimulatedUnit


class SimulatedLine(SimulatedDevice):
    """Units on a serial line: a pseudo-terminal, whose end for the gateway is at `path`."""

    def __init__(self, units: dict[int, SimulatedUnit], path: Path) -> None:
        super().__init__(units)
        self.path = path
        self._ends: list[int] = []
        self._received = b""

    async def start(self) -> None:
        """Plug it in."""
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._ends = [ours, theirs]
        with suppress(FileExistsError):
            self.path.symlink_to(os.ttyname(theirs))
        asyncio.get_running_loop().add_reader(ours, self._take)

    async def stop(self) -> None:
        """Unplug it."""
        asyncio.get_running_loop().remove_reader(self._ends[0])
        for end in self._ends:
            os.close(end)
        self.path.unlink()

    def _take(self) -> None:
        self._received += os.read(self._ends[0], 4096)
        while len(self._received) >= 2:
            size = 7 if self._received[1] == READ_DEVICE_IDENTIFICATION else 8
            frame, rest = self._received[:size], self._received[size:]
            if len(frame) < size:
                return
            self._received = rest
            body = frame[:-2]
            assert crc16(body) == frame[-2:]
            answer = self._answer(body[0], body[1:])
            if answer is not None:
                self.received += 1
                os.write(self._ends[0], body[:1] + answer + crc16(body[:1] + answer))
