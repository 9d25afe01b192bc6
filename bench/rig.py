"""The peers of a gateway under load: devices, real mosquitto, a subscriber."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.sites import SITES, Load, Place, process
from edge.health import StatusSnapshot, read_status
from tests.support.ports import free_port

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of the kernel; the number of a process's clock is made of it and of its pid.


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds, context switches and memory of one process at one moment of boot time."""

    at_s: float
    cpu_s: float
    switches: int
    resident_bytes: int


def usage(pid: int) -> Usage:
    """What all threads of a process took, kernel time included; exact, where /proc/PID/stat counts in 10 ms."""
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        switches += sum(int(line.split()[1]) for line in status.read_text("ascii").splitlines()[-2:])
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return Usage(
        at_s=time.clock_gettime(time.CLOCK_BOOTTIME), cpu_s=time.clock_gettime(~pid << 3 | _CPU_CLOCK),
        switches=switches, resident_bytes=pages * resource.getpagesize(),
    )  # fmt: skip


def other_threads_s(pid: int) -> float:
    """CPU seconds of all threads but the first: in a gateway, those that write to the disk."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            fields = (task / "stat").read_text("ascii").rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """An ext4 file system on a loop device, whose writes the kernel counts."""

    directory: Path
    name: str

    def written_bytes(self) -> int:
        """Bytes written to the device so far."""
        return int(Path(f"/sys/block/{self.name}/stat").read_text("ascii").split()[6]) * 512


@contextmanager
def block_device(directory: Path, size_bytes: int = 12 << 30) -> Iterator[BlockDevice]:
    """A device in a sparse file, mounted while the block is open."""
    image, mounted = directory / "disk.img", directory / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)], check=True)
    found = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mount", found, str(mounted)], check=True)
        try:
            yield BlockDevice(mounted, Path(found).name)
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", found], check=True)


@dataclass(frozen=True, slots=True)
class Broker:
    """A mosquitto that keeps nothing on disk."""

    port: int
    pid: int


@contextmanager
def broker(directory: Path, *, core: int, log: Path, settings: str = "") -> Iterator[Broker]:
    """A mosquitto on loopback that lets any number of messages wait, and as many be in flight as in configs/dmz."""
    port, configuration = free_port(), directory / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
        f"max_inflight_messages 512\n{settings}"
    )
    mosquitto = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if mosquitto is None:
        raise SystemExit("mosquitto is needed: apt-get install mosquitto")
    with process([mosquitto, "-c", str(configuration)], core=core, log=log) as running:
        _wait_for_port(port)
        yield Broker(port, running.pid)


class Rig:
    """Devices, broker and subscriber; a gateway, or a peer of it, runs against them on a core of its own.

    Attributes:
        ports: TCP ports of the devices, where they are apart.
        log: what devices, broker and subscriber say.
    """

    def __init__(self, load: Load, directory: Path, state: Path | None = None) -> None:
        """`state` is where the gateway keeps its buffer, when that is a disk of its own."""
        self.load, self.directory, self.state = load, directory, state or directory / "state"
        self.records = directory / "records.bin"
        self.ports: list[int] = []
        self._other_core, self.log = (load.gateway_core + 1) % (os.cpu_count() or 1), directory / "rig.log"
        self._stack = ExitStack()

    def __enter__(self) -> Rig:
        load, directory, stack = self.load, self.directory, self._stack
        other, log = self._other_core, self.log
        devices = SITES[load.driver](load, Place(directory, stack, other, log))
        self.ports = [int(device["port"]) for device in devices if "port" in device]
        self.broker_port = stack.enter_context(broker(directory, core=other, log=log)).port
        stack.enter_context(self.subscriber("tidegate/#", self.records))
        self._write_site(devices)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def socket(self) -> Path:
        """The gateway's status socket."""
        return self.state / "status.sock"

    @contextmanager
    def subscriber(self, topic: str, records: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A subscriber that keeps what it receives in a file."""
        command = [sys.executable, "-m", "bench.subscriber", str(self.broker_port), str(records), topic]
        with process(command, core=self._other_core, log=self.log) as running:
            assert running.stdout is not None
            running.stdout.readline()
            yield running

    @contextmanager
    def gateway(self) -> Iterator[subprocess.Popen[bytes]]:
        """The gateway, once every device answers."""
        with process(
            [sys.executable, "-m", "edge.cli", "run", str(self.directory / "site.yaml")],
            core=self.load.gateway_core, log=self.directory / "gateway.log",
        ) as running:  # fmt: skip
            for _ in range(1200):
                if running.poll() is not None:
                    raise SystemExit((self.directory / "gateway.log").read_text())
                state = self.status()
                if state is not None and all(device.state == "up" for device in state.devices):
                    break
                time.sleep(0.1)
            yield running

    def status(self) -> StatusSnapshot | None:
        """The status of the gateway; None while it does not answer."""
        try:
            return read_status(self.socket)
        except (OSError, ValueError):
            return None

    def _write_site(self, devices: Sequence[Mapping[str, Any]]) -> None:
        load = self.load
        site = {
            "gateway": {"name": "bench", "path": "acme/basel/bench", "state": str(self.state)},
            "clock": {"require": "any"},
            "seal": {"commit_window": load.commit_window, "compression": load.compression},
            "buffer": {"limit": "8 GB", "free_space": 0, "keep_delivered": load.keep_delivered},
            "uplink": {
                "mqtt": {
                    "host": "127.0.0.1",
                    "port": self.broker_port,
                    "tls": "off",
                    "resend_window": load.resend_window,
                }
            },
            "devices": devices,
        }
        (self.directory / "site.yaml").write_bytes(orjson.dumps(site, option=orjson.OPT_INDENT_2))


def _wait_for_port(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")
