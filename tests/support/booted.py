"""Machines that systemd boots: it is the first process of namespaces of its own, as on a machine of a plant.

With fewer capabilities, or another cgroup tree, systemd would not enforce IPAddressDeny= and DeviceAllow= in silence.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

LIMIT_S = 300.0  # Over when it happens.
# Each has a control group of its own: two that share one end each other's services.
_BOOT = """
root=$1 name=$2 below=$3 changes=$4; shift 4
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$name
mkdir "$group"
echo $$ >"$group/cgroup.procs"
if [[ $below ]]; then
    mkdir --parents "$root" "$changes/upper" "$changes/work"
    mount -t overlay -o "lowerdir=$below,upperdir=$changes/upper,workdir=$changes/work" none "$root"
fi
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --directory="$root" --machine="$name" --boot --register=no --keep-unit --console=pipe \
    --kill-signal=SIGRTMIN+3 --capability=all --system-call-filter=bpf --link-journal=no "$@"
"""
_CLEAN = """
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$1
[[ -d $group ]] || exit 0
echo 1 >"$group/cgroup.kill"
until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.05; done
"""
_PRIVATE = ("unshare", "--mount", "--propagation", "private", "bash", "-e", "-c")


class BootedMachine:
    """One such machine, running in its block: on the files in `root`, or on those `below`, which it cannot change."""

    def __init__(self, folder: Path, *, name: str = "tidegate", below: Path | None = None) -> None:
        self.root = folder / "root"
        self.name = f"{name}-{os.getpid()}"
        self._folder = folder
        self._below = below
        self._console = folder / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def arguments(self) -> Sequence[str]:
        """What else systemd-nspawn is told."""
        return ("--private-network",)

    def prefix(self) -> Sequence[str]:
        """Where systemd-nspawn is run."""
        return ()

    def __enter__(self) -> Self:
        below = (str(self._below), str(self._folder)) if self._below else ("", "")
        command = [*self.prefix(), *_PRIVATE, _BOOT, "boot", str(self.root), self.name, *below, *self.arguments()]
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        return self

    def wait_until_up(self) -> None:
        """Wait until everything that starts with the machine is started."""
        self.wait(self._is_up, f"systemd of {self.name} to be up")

    def __exit__(self, *_: object) -> None:
        self.power_off()
        self.cut_power()

    def power_off(self) -> None:
        """End every service, and then the machine."""
        assert self._nspawn is not None
        if self._leader:
            self.try_run("systemctl", "--no-block", "poweroff")
            self._nspawn.wait(LIMIT_S)

    def cut_power(self) -> None:
        """End it at once."""
        assert self._nspawn is not None
        self._nspawn.kill()
        self._nspawn.wait()
        subprocess.run([*_PRIVATE, _CLEAN, "clean", self.name], check=True, timeout=LIMIT_S)

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        self._leader = int(children[0]) if children else 0
        return bool(children) and self.try_run("systemctl", "is-system-running").stdout.strip() == "running"

    # What is done inside

    def enter(self, *command: str) -> list[str]:
        """The command that runs a command inside."""
        return ["nsenter", "--target", str(self._leader), "--all", "env", "--chdir=/", *command]

    def try_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return subprocess.run(self.enter(*command), check=False, capture_output=True, text=True, timeout=LIMIT_S)

    def run(self, *command: str) -> str:
        """What a command inside says; it must succeed."""
        result = self.try_run(*command)
        assert result.returncode == 0, (command, result.stdout, result.stderr, self.log("*")[-20:])
        return result.stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").strip()

    def log(self, unit: str) -> list[str]:
        """Every line of a unit since the boot."""
        return self.try_run("journalctl", "--unit", unit, "--output", "cat", "--no-pager").stdout.splitlines()

    def events(self, unit: str, kind: str) -> list[dict[str, Any]]:
        """Its events of one kind."""
        lines = (json.loads(line) for line in self.log(unit) if line.startswith("{"))
        return [line for line in lines if line["event"] == kind]

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Look until it is so."""
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, (f"waited {LIMIT_S:g} s for {what}", self.log("*")[-20:])
            time.sleep(0.05)

    def wait_for(self, unit: str, kind: str, subjects: Sequence[str], times: int = 1) -> None:
        """Wait for so many events of each subject."""

        def is_so() -> bool:
            seen = [event["subject"] for event in self.events(unit, kind)]
            return all(seen.count(subject) >= times for subject in subjects)

        self.wait(is_so, f"{kind} of {subjects} in {unit}, {times} times")
