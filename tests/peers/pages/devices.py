"""A person beside a device of each protocol, for the pages on a first value: a simulator or another implementation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tests.peers.opcua.plant import running
from tests.support.ports import free_port
from tests.support.typist import ROOT, Typist, typist

MODBUS = """\
import asyncio
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady

async def serve():
    temperature = Signal("holding 100", "float32", steady(21.4), word_order="little")
    unit = SimulatedUnit([temperature, Signal("holding 104.0", "bool", steady(1))], illegal=["input 0-65535"])
    async with SimulatedDevice({1: unit}) as device:
        print(device.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""
SHOWN = "EB:24:20:58:F0:68:1F:80:1C:A5:7B:03:B9:30:AA:B5:EC:01:E4:DF:1D:41:C8:D9:25:47:AD:AF:D9:3F:24:4E"
"""The fingerprint on the page for OPC UA."""
SERIAL = """\
import asyncio, sys
from pathlib import Path
from drivers.modbus.simulator import Signal, SimulatedUnit, steady
from drivers.modbus.simulator.line import SimulatedLine

async def serve():
    unit = SimulatedUnit([Signal("input 0", "int16", steady(845))], illegal=["input 900-910"])
    async with SimulatedLine({1: unit}, Path(sys.argv[1])):
        print(0, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@contextmanager
def started(*command: object) -> Iterator[int]:
    """A device of its own process; the port that it prints."""
    with subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def at(host: str, port: int, usual: int) -> dict[str, str]:
    """What stands for the host of a page: in messages, in the configuration, on the command line."""
    here = f"127.0.0.1:{port}"
    return {f"{host}:{usual}": here, f"host: {host}": f"host: 127.0.0.1\n    port: {port}",
            f"{host}  {usual}": f"127.0.0.1  {port}", host: here}  # fmt: skip


@contextmanager
def beside_modbus(folder: Path) -> Iterator[Typist]:
    """A Modbus TCP device with floats whose low word comes first."""
    with (
        started("-c", MODBUS) as port,
        typist(folder, {**at("192.0.2.10", port, 502), **at("192.0.2.99", free_port(), 502)}) as person,
    ):
        yield person


@contextmanager
def beside_opc_ua(folder: Path) -> Iterator[Typist]:
    """A server on asyncua, which trusts every client."""
    with running("asyncua", folder) as server:
        fingerprint = sha256((folder / "asyncua/server.der").read_bytes()).digest()
        here = {SHOWN: fingerprint.hex(":").upper(), SHOWN.replace(":", "").lower()[:16]: fingerprint.hex()[:16],
                "192.0.2.99:4841": f"127.0.0.1:{free_port()}"}  # fmt: skip
        with typist(folder, {**here, **at("192.0.2.30", server.port, 4840)}) as person:
            yield person


@contextmanager
def beside_logix(folder: Path) -> Iterator[Typist]:
    """A simulated Logix controller."""
    with started("-m", "drivers.ethernetip.simulator") as port, typist(folder, at("192.0.2.20", port, 44818)) as person:
        yield person


@contextmanager
def beside_serial(folder: Path) -> Iterator[Typist]:
    """A unit on a serial line, which is a pair of pseudo-terminals."""
    here = {"/dev/serial/by-id/usb": f"{folder}/usb"}
    with started("-c", SERIAL, folder / "usb-rs485"), typist(folder, here) as person:
        yield person
