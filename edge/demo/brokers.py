"""A broker that can be stopped and started again: mosquitto where it is installed, else the embedded one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from pathlib import Path
from typing import Literal, Protocol

from edge.demo.broker import Broker
from edge.demo.children import end_process, kill_process, start_process
from edge.errors import ErrorCode, TidegateError

BrokerKind = Literal["mosquitto", "embedded"]

# Over its queue limit mosquitto drops messages without a refusal: as in configs/dmz the limit is out of reach.
_CONFIGURATION = (
    "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n"
    "max_queued_messages 1000000\nmax_inflight_messages 64\n"
)
# As another user it would not be ended with this process: the kernel forgets that at a change of user.
_OF_ROOT = "user root\n"
_START_S = 10.0


class BrokerNotStarted(TidegateError):
    """The broker does not listen."""

    default_code = ErrorCode.DEMO


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

    def kill(self) -> None:
        """End its process at once, if it has one."""
        ...


class Mosquitto:
    """mosquitto as a child process."""

    name = "mosquitto"

    def __init__(self, executable: str, directory: Path) -> None:
        self._executable = executable
        self.port = _free_port()
        self._file = directory / "mosquitto.conf"
        user = _OF_ROOT if os.geteuid() == 0 else ""
        self._file.write_text(_CONFIGURATION.format(port=self.port) + user, "ascii")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """See `DemoBroker.start`. Raises BrokerNotStarted."""
        self._process = await start_process(
            self._executable, "-c", str(self._file), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_START_S):
                while not await _is_listening(self.port):
                    if self._process.returncode is not None:
                        raise BrokerNotStarted(self._words(f"ended with {self._process.returncode}"))
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise BrokerNotStarted(self._words(f"does not listen after {_START_S:g} s")) from None

    async def stop(self) -> None:
        """See `DemoBroker.stop`."""
        process, self._process = self._process, None
        await end_process(process)

    def kill(self) -> None:
        """See `DemoBroker.kill`."""
        kill_process(self._process)

    def _words(self, what: str) -> str:
        return f"mosquitto {what} on port {self.port}; try --broker embedded"


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

    def kill(self) -> None:
        """See `DemoBroker.kill`: it ends with this process."""


def choose(directory: Path, wanted: BrokerKind | None = None) -> DemoBroker:
    """The broker that is wanted; without a wish mosquitto when it is installed, else the embedded one.

    Raises:
        BrokerNotStarted: mosquitto is wanted and not installed.
    """
    executable = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if wanted == "embedded" or (wanted is None and executable is None):
        return Embedded()
    if executable is None:
        raise BrokerNotStarted("mosquitto is not installed; try --broker embedded")
    return Mosquitto(executable, directory)


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
