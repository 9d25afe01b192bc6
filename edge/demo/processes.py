"""A gateway and a relay as processes: the commands a user would start, with configurations as a user writes them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import orjson

from edge.buffer import PosixDisk, Reader
from edge.demo.brokers import DemoBroker
from edge.demo.children import end_process, kill_process, start_process
from edge.errors import ErrorCode, TidegateError
from edge.health import StatusSnapshot, read_status
from edge.seal import FileCounter, issuer_of, load_or_create_identity, parse, public_path_of

POLL_INTERVAL_S = 0.2
_LOG_LINES_SHOWN = 20

SnapshotCallback = Callable[[StatusSnapshot | None, StatusSnapshot | None], object]
"""Called with the status of the gateway and of the relay; None for one that does not answer."""


class ProcessExited(TidegateError):
    """A process ended by itself; the message has the end of its log."""

    default_code = ErrorCode.DEMO


class ProcessPair:
    """A directory with two configurations, and the two processes that use them."""

    def __init__(
        self, directory: Path, broker: DemoBroker, devices: Sequence[Mapping[str, Any]], *, name: str = "demo",
        sinks: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.directory = directory
        self.name = name
        self.archive = directory / "archive"
        self._broker, self._devices, self._sinks = broker, devices, sinks
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def trust(self) -> Path:
        """The gateway's public key, for the relay and for verifiers."""
        return public_path_of(self.directory / "gateway" / "identity.pem")

    def write(self) -> None:
        """Create the gateway's identity and both configurations, as JSON, which is YAML too."""
        state = self.directory / "gateway"
        state.mkdir(parents=True, exist_ok=True)
        counter = FileCounter(state / "identity.counter")
        load_or_create_identity(state / "identity.pem", issuer=issuer_of(self.name), counter=counter)
        mqtt = {"host": "127.0.0.1", "port": self._broker.port, "tls": "off"}
        gateway = {
            "gateway": {"name": self.name, "path": f"acme/basel/upstream/{self.name}", "state": str(state)},
            "clock": {"require": "any"},
            "buffer": {"limit": "500 MB", "free_space": 0},
            "uplink": {"mqtt": mqtt},
            "devices": list(self._devices),
        }
        relay = {
            "relay": {
                "name": self.name, "archive": str(self.archive), "trust": [str(self.trust)], "mqtt": mqtt,
                "views": {"unified_namespace": {"prefix": "uns"}}, "sinks": dict(self._sinks),
            }
        }  # fmt: skip
        self._file("gateway").write_bytes(orjson.dumps(gateway, option=orjson.OPT_INDENT_2))
        self._file("relay").write_bytes(orjson.dumps(relay, option=orjson.OPT_INDENT_2))

    async def start(self) -> None:
        """Start the relay, then the gateway."""
        await self._start("relay", "relay", str(self._file("relay")))
        await self._start("gateway", "run", str(self._file("gateway")))

    async def stop(self, name: str) -> None:
        """End one process."""
        await end_process(self._processes.pop(name, None))

    async def cut_power(self, name: str) -> None:
        """End one process as a power cut does."""
        process = self._processes.pop(name)
        kill_process(process)
        await process.wait()

    async def start_again(self) -> None:
        """Start the gateway after its power was cut."""
        await self._start("gateway", "run", str(self._file("gateway")))

    async def stop_all(self) -> None:
        """End both processes where they still run."""
        for name in ("gateway", "relay"):
            await self.stop(name)

    def check(self) -> None:
        """Raises ProcessExited when a process has ended by itself."""
        for name, process in self._processes.items():
            if process.returncode is not None:
                lines = self._log(name).read_text("utf-8", "replace").splitlines()[-_LOG_LINES_SHOWN:]
                raise ProcessExited(f"the {name} ended with {process.returncode}:\n" + "\n".join(lines))

    async def status(self, name: str) -> StatusSnapshot | None:
        """The status of a process; None while it does not answer."""
        socket = self.directory / "gateway" / "status.sock" if name == "gateway" else self.archive / "status.sock"
        try:
            return await asyncio.to_thread(read_status, socket)
        except (OSError, ValueError):
            return None

    async def wait_until(
        self, condition: SnapshotCallback, within_s: float, on_status: SnapshotCallback | None = None
    ) -> bool:
        """Poll both sides until a condition holds or the time is over; returns if it held. Raises ProcessExited."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while True:
            self.check()
            sides = await self.status("gateway"), await self.status("relay")
            if on_status is not None:
                on_status(*sides)
            if condition(*sides):
                return True
            if loop.time() >= deadline_s:
                return False
            await asyncio.sleep(POLL_INTERVAL_S)

    def last_stored(self) -> tuple[str, int] | None:
        """Epoch and seq of the last record in the gateway's buffer; None where there is none."""
        with closing(Reader(PosixDisk(self.directory / "gateway" / "buffer"))) as reader:
            found = reader.read(reader.durable_end() - 1, 1) if reader.durable_end() else []
        if not found:
            return None
        envelope = parse(found[-1][1])
        return envelope.epoch.hex(), envelope.seq

    def stored_records(self) -> int:
        """Number of records in the gateway's buffer, delivered ones included."""
        with closing(Reader(PosixDisk(self.directory / "gateway" / "buffer"))) as reader:
            return reader.durable_end() - reader.oldest()

    async def ask(self, *arguments: str) -> tuple[int, str]:
        """Run a command of tidegate on what is kept here: its exit code, and what it prints."""
        process = await _command(*arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        self._processes["command"] = process
        output, _ = await process.communicate()
        del self._processes["command"]
        assert process.returncode is not None
        return process.returncode, output.decode("utf-8", "replace")

    async def archived_values(self) -> int:
        """How many values `tidegate export` finds in the archive. Raises ProcessExited."""
        with TemporaryDirectory(dir=self.directory) as folder:
            words = (str(self.archive), "--trust", str(self.trust), "-o", f"{folder}/values.csv", "--json")
            code, output = await self.ask("export", *words)
        try:
            return int(orjson.loads(output)["values"])
        except (ValueError, KeyError):
            raise ProcessExited(f"the export ended with {code}:\n{output}") from None

    def kill(self) -> None:
        """End all processes at once."""
        for process in self._processes.values():
            kill_process(process)

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.yaml"

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    async def _start(self, name: str, *arguments: str) -> None:
        with self._log(name).open("ab") as log:
            self._processes[name] = await _command(*arguments, stdout=log, stderr=log)


def has_archived(relay: StatusSnapshot | None, epoch: str, seq: int) -> bool:
    """Whether all records of a chain up to this one are durable in the relay's archive."""
    if relay is None or relay.relay is None or relay.relay.not_durable:
        return False
    return any(issuer.epoch == epoch and issuer.seq >= seq and not issuer.missing and not issuer.waiting
               for issuer in relay.relay.issuers)  # fmt: skip


def is_drained(gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> bool:  # noqa: ARG001
    """Whether the broker has acknowledged every record but the one being sealed."""
    if gateway is None or gateway.buffer is None or gateway.uplink is None:
        return False
    return gateway.uplink.state == "up" and (gateway.buffer.undelivered_records or 0) <= 1


async def _command(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    return await start_process(sys.executable, "-m", "edge.cli", *arguments, **options)
