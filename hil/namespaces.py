"""Machines made of namespaces of this one: each with a network and files of its own, joined by cables and switches."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from hil.switches import State, Switch

_ONLY_HOSTS = """
mount --bind "$1/hosts" /etc/hosts
echo ready
exec sleep infinity
"""
_ENDS_WITH_THIS = ("setpriv", "--pdeathsig", "KILL")


class Machine:
    """A machine with a network and files of its own: what runs on it is ended with it.

    `lay_out` is a shell script that begins it: it says `ready`, and stays; `$1` is its folder. Without
    `has_own_network` it uses the network of this machine.

    Attributes:
        pid: the process that holds its namespaces.
        enter: what a command begins with that runs on it.
    """

    def __init__(
        self, folder: Path, lay_out: str = _ONLY_HOSTS, hosts: str = "127.0.0.1 dmz-broker.example", *,
        has_own_network: bool = True,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._lay_out, self._hosts, self._has_own_network = lay_out, hosts, has_own_network
        self._running = ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{self._hosts}\n")
        script = ("ip link set lo up\n" if self._has_own_network else "") + self._lay_out
        apart = ["unshare", "--mount", *(["--net"] if self._has_own_network else [])]
        # It ends with this process, even by SIGKILL, and its namespaces with it.
        layout = [*_ENDS_WITH_THIS, *apart, "bash", "-eu", "-c", script, "layout", str(self.folder)]
        holder = self._keep(subprocess.Popen(layout, stdout=subprocess.PIPE, text=True))
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        self.pid = holder.pid
        self.enter = ["nsenter", "--target", str(holder.pid), "--mount"]
        self.enter += [*(["--net"] if self._has_own_network else []), "--", "env"]
        self.enter += [f"--chdir={self.folder}", f"CREDENTIALS_DIRECTORY={self.folder}/credentials"]
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _keep(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        self._running.enter_context(process)
        self._running.callback(process.kill)
        return process

    def run(self, *command: str) -> str:
        """What a command says; it must succeed."""
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A command that goes on; it too ends with this process, even by SIGKILL."""
        return self._keep(subprocess.Popen([*_ENDS_WITH_THIS, *self.enter, *command], text=True, **options))


def join(one: Machine, address: str, cable: str, other: Machine, other_address: str, other_cable: str) -> None:
    """Lay a cable between two machines, which name their ends each for itself."""
    one.run("ip", "link", "add", cable, "type", "veth", "peer", "name", other_cable, "netns", str(other.pid))
    for machine, end, own, far in ((one, cable, address, other_address), (other, other_cable, other_address, address)):
        machine.run("ip", "link", "set", end, "addrgenmode", "none", "up")
        machine.run("ip", "address", "add", f"{own}/32", "dev", end)
        machine.run("ip", "route", "add", far, "dev", end)


class Ethernet:
    """A network in the namespace of this process: a bridge with an address of its own, and a port for each machine."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._address = address
        self._ports: list[str] = []

    def __enter__(self) -> Self:
        _ip("link", "add", self.name, "type", "bridge")
        _ip("link", "set", self.name, "addrgenmode", "none", "up")
        _ip("address", "add", f"{self._address}/24", "dev", self.name)
        return self

    def __exit__(self, *_: object) -> None:
        for port in [*self._ports, self.name]:
            subprocess.run(["ip", "link", "delete", port], check=False, stderr=subprocess.DEVNULL)

    def plug_in(self, machine: Machine, address: str, name: str) -> Switch:
        """Join a machine by a cable; what pulls it at the side of the network."""
        port = f"{self.name}{len(self._ports)}"
        _ip("link", "add", port, "type", "veth", "peer", "name", self.name, "netns", str(machine.pid))
        self._ports.append(port)
        _ip("link", "set", port, "master", self.name, "addrgenmode", "none", "up")
        machine.run("ip", "link", "set", self.name, "addrgenmode", "none", "up")
        machine.run("ip", "address", "add", f"{address}/24", "dev", self.name)

        async def turn(state: State) -> None:
            _ip("link", "set", port, "up" if state == "on" else "down")

        return Switch(name, turn)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
