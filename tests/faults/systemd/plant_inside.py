"""The devices of the booted machine: Modbus TCP at two addresses, a unit on a serial line, one that dials in.

A broker is at a third address.
"""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path

from drivers.modbus.framing import crc16
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter

LISTED, NOT_LISTED, CALLED, CALLER = "192.0.2.10", "203.0.113.9", "192.0.2.1", "198.51.100.7"
BROKER = "198.51.100.10"
LINE, TCP_PORT, DIAL_IN_PORT = "/run/line", 5020, 5021


def device() -> SimulatedDevice:
    return SimulatedDevice({1: SimulatedUnit([Signal("holding 0", "uint32", counter(), word_order="big")])})


def answer_rtu(unit: SimulatedDevice, frame: bytes) -> bytes:
    if len(frame) < 4 or crc16(frame[:-2]) != frame[-2:]:
        return b""
    body = frame[:1] + (unit._answer(frame[0], frame[1:-2]) or b"")
    return body + crc16(body)


def make_line() -> int:
    """A pseudo-terminal as a serial port, of the group that serial ports have; the device's end."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.chown(os.ttyname(theirs), 0, 20)
    Path(os.ttyname(theirs)).chmod(0o660)
    Path(LINE).symlink_to(os.ttyname(theirs))
    return ours


async def answer_on_a_line(ours: int) -> None:
    unit = device()
    asyncio.get_running_loop().add_reader(ours, lambda: os.write(ours, answer_rtu(unit, os.read(ours, 256))))
    await asyncio.Event().wait()


async def dial_in() -> None:
    unit = device()
    while True:
        try:
            reader, writer = await asyncio.open_connection(CALLED, DIAL_IN_PORT, local_addr=(CALLER, 0))
            while frame := await reader.read(256):
                writer.write(answer_rtu(unit, frame))
            writer.close()
        except OSError:
            await asyncio.sleep(0.1)


async def main(line: int) -> None:
    unit = device()
    for address in (LISTED, NOT_LISTED):
        await asyncio.start_server(unit._serve, address, TCP_PORT)
    await asyncio.gather(answer_on_a_line(line), dial_in())


if __name__ == "__main__":
    asyncio.run(main(make_line()))
