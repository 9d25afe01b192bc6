"""The devices of a benchmark: responders with little CPU time per answer, and their sections of a configuration."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A site to be polled: `moving` of each hundred values are new in every scan.

    Devices that ignore identity never answer what they are, and log when they had answered their first scan.
    """

    devices: int = 100
    tags: int = 500
    every: str = "100 ms"
    in_flight: int = 1
    commit_window: str = "20 ms"
    moving: int = 100
    compression: str = "zstd"
    keep_delivered: str = "72 h"
    resend_window: str = "60 s"
    gateway_core: int = 0
    driver: str = "modbus"
    ignores_identity: bool = False

    @property
    def asked(self) -> str:
        """The load as text."""
        return f"{self.devices} {self.driver} devices x {self.tags} tags at {self.every}"


@contextmanager
def process(arguments: Sequence[str], *, core: int | None = None, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the context, optionally on one core."""
    pinned = ["taskset", "-c", str(core), *arguments] if core is not None else list(arguments)
    with log.open("ab") as file, subprocess.Popen(pinned, stdout=subprocess.PIPE, stderr=file, cwd=ROOT) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)
                try:
                    running.wait(20)
                except subprocess.TimeoutExpired:
                    running.kill()


@contextmanager
def responder(arguments: Sequence[str], stderr: int | None = None) -> Iterator[str]:
    """The first line that a process prints; the process ends with the context."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=stderr, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline()
        finally:
            running.kill()


def compiled(name: str, directory: Path) -> Path:
    """The path of a C program of this folder, compiled."""
    target = directory / name
    subprocess.run(["gcc", "-O2", "-o", str(target), str(ROOT / "bench" / f"{name}.c")], check=True)
    return target


@dataclass(frozen=True, slots=True)
class Place:
    """Where the processes of a site run, and until when."""

    directory: Path
    stack: ExitStack
    core: int
    log: Path

    def ports(self, *arguments: str) -> list[int]:
        """Start a process; returns the ports that its first line names."""
        started = self.stack.enter_context(process(arguments, core=self.core, log=self.log))
        assert started.stdout is not None
        return [int(port) for port in started.stdout.readline().split()]

    def tags(self, header: str, rows: Sequence[str]) -> str:
        """Write the tags of all devices to a file; returns its name."""
        (self.directory / "tags.csv").write_text("\n".join([header, *rows, ""]))
        return "tags.csv"


def _modbus(load: Load, place: Place) -> list[Mapping[str, Any]]:
    responder = str(compiled("modbus_responder", place.directory))
    options = ["--ports", str(load.devices), "--moving", str(load.moving)]
    if load.ignores_identity:
        options += ["--ignore-others", "1", "--registers", str(2 * load.tags)]
    ports = place.ports(responder, "--port", "0", *options)
    rows = [f"t{tag},holding {2 * tag},float32,big" for tag in range(load.tags)]
    groups = [{"every": load.every, "tags_from": place.tags("name,address,type,word_order", rows)}]
    return [
        {"name": f"d{number}", "driver": "modbus", "host": "127.0.0.1", "port": port,
         "limits": {"in_flight": load.in_flight}, "scan_groups": groups}
        for number, port in enumerate(ports)
    ]  # fmt: skip


def _opcua(load: Load, place: Place) -> list[Mapping[str, Any]]:
    """One server with a session for each device."""
    port = free_port()
    server = [sys.executable, "-m", "bench.opcua_driver", "--nodes", str(load.tags), "--port", str(port)]
    started = place.stack.enter_context(process(server, core=place.core, log=place.log))
    assert started.stdout is not None
    started.stdout.readline()
    rows = [f"t{tag},nsu=http://bench.example/opcua;s=Line4.Temp{tag},float64" for tag in range(load.tags)]
    groups = [{"every": load.every, "tags_from": place.tags("name,address,type", rows)}]
    return [
        {"name": f"d{number}", "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{port}", "security": "none",
         "scan_groups": groups}
        for number in range(load.devices)
    ]  # fmt: skip


def _ethernetip(load: Load, place: Place) -> list[Mapping[str, Any]]:
    options = ["--controllers", str(load.devices), "--tags", str(load.tags)] + ["--moving"] * (load.moving > 0)
    started = place.stack.enter_context(
        process([sys.executable, "-m", "drivers.ethernetip.simulator", *options], core=place.core, log=place.log)
    )
    assert started.stdout is not None
    ports = [int(started.stdout.readline()) for _ in range(load.devices)]
    types = ("REAL", "DINT", "BOOL")
    rows = [f"t{tag},Tag{tag:04d},{types[tag % 3]}" for tag in range(load.tags)]
    groups = [{"every": load.every, "tags_from": place.tags("name,address,type", rows)}]
    return [
        {"name": f"d{number}", "driver": "ethernetip", "host": "127.0.0.1", "port": port, "scan_groups": groups}
        for number, port in enumerate(ports)
    ]


def _simulator(load: Load, place: Place) -> list[Mapping[str, Any]]:
    rows = [f"t{tag},sine,float32" for tag in range(load.tags)]
    groups = [{"every": load.every, "tags_from": place.tags("name,signal,type", rows)}]
    return [{"name": f"d{number}", "driver": "simulator", "scan_groups": groups} for number in range(load.devices)]


SITES: Mapping[str, Callable[[Load, Place], list[Mapping[str, Any]]]] = {
    "modbus": _modbus,
    "opcua": _opcua,
    "ethernetip": _ethernetip,
    "simulator": _simulator,
}
