"""A broker that can be stopped and started again: mosquitto where it is installed, else the embedded one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path
from typing import Protocol

from edge.demo.broker import Broker

# Over its queue limit mosquitto drops messages without a refusal: as in configs/dmz the limit is out of reach.
_CONFIGURATION = (
    "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n"
    "max_queued_messages 1000000\nmax_inflight_messages 64\n"
)
_START_S = 10.0
_END_S = 15.0


class DemoBroker(Protocol):
    """A broker on loopback."""

    name: str
    port: int

    async def start(self) -> None:
        """Accept clients."""
        ...

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        ...


class Mosquitto:
    """mosquitto as a child process."""

    name = "mosquitto"

    def __init__(self, executable: str, directory: Path) -> None:
        self._executable = executable
        self.port = _free_port()
        self._file = directory / "mosquitto.conf"
        self._file.write_text(_CONFIGURATION.format(port=self.port), "ascii")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """See `DemoBroker.start`."""
        self._process = await asyncio.create_subprocess_exec(
            self._executable, "-c", str(self._file), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(_START_S):
            while not await _is_listening(self.port):  # noqa: ASYNC110 - it does not say when it is ready
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """See `DemoBroker.stop`."""
        process, self._process = self._process, None
        await end_process(process)


class Embedded:
    """The broker that comes with Tidegate, in this process."""

    name = "the embedded broker"

    def __init__(self) -> None:
        self._broker = Broker()
        self.port = 0

    async def start(self) -> None:
        """See `DemoBroker.start`."""
        await self._broker.start()
        self.port = self._broker.port

    async def stop(self) -> None:
        """See `DemoBroker.stop`."""
        await self._broker.stop()


def choose(directory: Path) -> DemoBroker:
    """Mosquitto when it is installed, else the embedded broker."""
    executable = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    return Mosquitto(executable, directory) if executable else Embedded()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def end_process(process: asyncio.subprocess.Process | None) -> None:
    """Terminate a process and wait for it; after 15 s it is killed."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
