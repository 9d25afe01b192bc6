"""The machines of a plant, each with a Debian of its own and an engineer at it, and a cable between them.

Nothing but the cable is shared: no name server, no index of packages, no file. Time comes from a server at the cable.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.booted import LIMIT_S, BootedMachine
from tests.support.typist import ROOT, Typist

BROKER, RELAY, GATEWAY, AUTHORITY = "198.51.100.10", "203.0.113.20", "192.0.2.20", "198.51.100.65"
DEVICE, TIME_SERVER = "192.0.2.10", "198.51.100.2"
_CABLE = f"""
ip link set lo up
ip link add cable type bridge
ip link set cable up
for address in {DEVICE} {TIME_SERVER}; do ip address add $address/32 dev cable; done
ip route add default dev cable
echo ready
exec sleep infinity
"""
_CONNECT = """
ip link set host0 up
ip address add $1/32 dev host0
ip route add default dev host0
useradd --create-home --groups sudo --shell /bin/bash engineer
"""
_FILES = {
    "etc/resolv.conf": "# There is no name server.\n",
    "etc/sudoers.d/engineer": "engineer ALL=(ALL) NOPASSWD: ALL\n",
    # No machine here may set the clock, which is the clock of all.
    "etc/default/chrony": 'DAEMON_OPTS="-x"\n',
}
_TIME = f"""
port 123
bindaddress {TIME_SERVER}
allow
local stratum 1
cmdport 0
bindcmdaddress /
"""
_SIMULATED = """
gateway: {{name: device, path: acme, state: ./state}}
devices: [{{name: device, driver: modbus, host: 127.0.0.1, scan_groups: [{{every: 1 s, tags: [{tags}]}}]}}]
"""


class Machine(BootedMachine):
    """A machine at the cable, on a fresh Debian."""

    def __init__(self, folder: Path, name: str, address: str, below: Path, cable: int) -> None:
        super().__init__(folder, name=name, below=below)
        self.address = address
        self._cable = cable
        upper = folder / "upper"
        own = {
            "etc/hostname": f"{name}\n", "etc/machine-id": f"{uuid.uuid4().hex}\n",
            "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n{BROKER} dmz-broker.example\n",
        }  # fmt: skip
        for path, text in {**_FILES, **own}.items():
            (upper / path).parent.mkdir(parents=True, exist_ok=True)
            (upper / path).write_text(text)
        (upper / "etc/sudoers.d/engineer").chmod(0o440)
        # Modules belong to the kernel, which is this machine's: Debian 13 reports that as a failure.
        (upper / "etc/systemd/system").mkdir(parents=True)
        (upper / "etc/systemd/system/systemd-modules-load.service").symlink_to("/dev/null")

    def prefix(self) -> Sequence[str]:
        return ("nsenter", "--target", str(self._cable), "--net")

    def arguments(self) -> Sequence[str]:
        return ("--network-bridge=cable", "--resolv-conf=off")

    def connect(self) -> None:
        """Give it its address, and the engineer an account."""
        self.wait_until_up()
        self.run("bash", "-euc", _CONNECT, "connect", self.address)

    def terminal(self, command: str) -> list[str]:
        """The command that runs this one as the engineer, who has just logged in."""
        return self.enter("runuser", "--login", "engineer", "--command", f"set -euo pipefail\n{command}")

    def put(self, path: Path, folder: str = ".") -> None:
        """Put a file into the engineer's home, as from a stick."""
        command = self.terminal(f"mkdir -p '{folder}'; cat >'{folder}/{path.name}'")
        subprocess.run(command, input=path.read_bytes(), check=True)


class Site:
    """Four machines: of the authority, the broker, the relay and the gateway. They run in its block."""

    def __init__(self, folder: Path, below: Path) -> None:
        self.folder = folder
        self._below = below
        self._stack = ExitStack()
        self.machines: dict[str, Machine] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            command = ["unshare", "--net", "bash", "-euc", _CABLE]
            holder = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(holder.kill)
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            self._cable = holder.pid
            for name, address in {
                "authority": AUTHORITY, "broker": BROKER, "relay": RELAY, "gateway": GATEWAY
            }.items():  # fmt: skip
                folder = self.folder / name
                folder.mkdir()
                machine = Machine(folder, name, address, self._below, holder.pid)
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                machine.__enter__()
                stack.callback(machine.cut_power)
                self.machines[name] = machine
            self._serve_time(stack)
            for machine in self.machines.values():
                machine.connect()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve_time(self, stack: ExitStack) -> None:
        (self.folder / "time.conf").write_text(f"{_TIME}pidfile {self.folder}/time.pid\n")
        self._start(stack, "chronyd", "-x", "-d", "-u", "root", "-f", f"{self.folder}/time.conf")

    def start_device(self, tags: str, port: int) -> None:
        """A device answers, with these tags."""
        path = self.folder / "device.yaml"
        path.write_text(_SIMULATED.format(tags=tags))
        self._start(self._stack, sys.executable, "-m", "edge.cli", "simulate", str(path), "--host", DEVICE,
                    "--port", str(port))  # fmt: skip

    def _start(self, stack: ExitStack, *command: str) -> None:
        with (self.folder / f"{Path(command[0]).name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["nsenter", "--target", str(self._cable), "--net", *command],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(process.kill)


_MOVE = re.compile(r"\*\*On\s+the\s+(\w+)\*\*|Carry((?:[^`.]*`[^`]+`)+)\s+to\s+the\s+(\w+)")


class Engineer(Typist):
    """Types at the machine that the page names last, "**On the broker**"; carries files, "Carry `X` to the broker"."""

    def __init__(self, site: Site, at: str, instead: Mapping[str, str] | None = None) -> None:
        super().__init__(site.folder, instead or {}, limit_s=LIMIT_S)
        self.site = site
        self.at = site.machines[at]

    def heed(self, prose: str) -> None:
        for place, files, to in _MOVE.findall(prose):
            if place:
                self.at = self.site.machines[place]
            for name in re.findall("`([^`]+)`", files):
                self._carry(name, self.site.machines[to])

    def _carry(self, name: str, to: Machine) -> None:
        took = subprocess.run(self.at.terminal(f"cat {name}"), check=False, capture_output=True)
        assert took.returncode == 0, took.stderr
        file = self.folder / Path(name).name
        file.write_bytes(took.stdout)
        to.put(file)

    def save(self, name: str, text: str) -> None:
        subprocess.run(self.at.terminal(f"sudo tee '{name}' >/dev/null"), input=text.encode(), check=True)

    def run(self, command: str) -> str:
        began = time.monotonic()
        try:
            return super().run(command)
        except (AssertionError, subprocess.TimeoutExpired):
            print(self.at.name, *self.at.log("*")[-40:], sep="\n")
            raise
        finally:
            print(f"{time.monotonic() - began:.1f} s at {self.at.name}: {command}")

    def shell(self, command: str) -> list[str]:
        return self.at.terminal(command)
