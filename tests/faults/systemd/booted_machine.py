"""A machine with the shipped units: systemd itself as first process of namespaces of its own, on this one's programs.

Only /usr and the Python environment are shared, and cannot be changed from inside; it has no network but its loopback.
With fewer capabilities, or another cgroup tree, systemd would not enforce IPAddressDeny= and DeviceAllow= in silence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from tests.faults.systemd import plant_inside

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "systemd"
LIMIT_S = 300.0  # Over when it happens.
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_BOOT = """
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --directory="$1" --machine="$2" --boot --register=no --keep-unit --console=pipe \
    --kill-signal=SIGRTMIN+3 --private-network --capability=all --system-call-filter=bpf --link-journal=no "${@:3}"
"""
_PROGRAM = """#!/opt/tidegate/bin/python3
import sys
sys.path.insert(0, "/opt/tidegate/lib/tidegate")
from edge.cli import main
sys.exit(main())
"""
_PLANT = f"""[Service]
Environment=PYTHONPATH=/opt/tidegate/lib/tidegate:/opt/tidegate/lib
ExecStart=/opt/tidegate/bin/python3 -m tests.faults.systemd.plant_inside
{
    "".join(
        f"ExecStartPre=/usr/sbin/ip address add {address}/32 dev lo{chr(10)}"
        for address in (plant_inside.LISTED, plant_inside.NOT_LISTED, plant_inside.CALLED, plant_inside.CALLER)
    )
}
[Install]
WantedBy=multi-user.target
"""
_FOLDERS = (
    "etc/systemd/system/multi-user.target.wants", "etc/sysusers.d", "etc/tidegate/credentials", "usr", "var", "proc",
    "sys", "dev", "tmp", "run", "root", "opt/tidegate/bin", "opt/tidegate/python", "opt/tidegate/lib/tidegate/edge",
    "opt/tidegate/lib/tidegate/drivers", "opt/tidegate/lib/tests", f"opt/tidegate/lib/{_PYTHON}/site-packages",
)  # fmt: skip
_CREDENTIALS = ("broker-ca", "mqtt-certificate", "mqtt-key", "identity")


class Machine:
    """One such machine, running in its block."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._console = folder / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        self._lay_out()
        shared = {
            "/usr": "/usr", sysconfig.get_path("purelib"): f"/opt/tidegate/lib/{_PYTHON}/site-packages",
            str(ROOT / "edge"): "/opt/tidegate/lib/tidegate/edge",
            str(ROOT / "drivers"): "/opt/tidegate/lib/tidegate/drivers",
            str(ROOT / "tests"): "/opt/tidegate/lib/tests",
        }  # fmt: skip
        if not _is_debians():
            shared[sys.base_prefix] = "/opt/tidegate/python"
        binds = [f"--bind-ro={here}:{there}" for here, there in shared.items()]
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                ["unshare", "--mount", "--cgroup", "--propagation", "private", "bash", "-e", "-c", _BOOT, "boot",
                 self.root, f"tidegate-{os.getpid()}", *binds],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        try:
            self.wait(self._is_up, "systemd to be up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._nspawn is not None
        if self._leader:
            self.try_run("systemctl", "poweroff")
        try:
            self._nspawn.wait(LIMIT_S)
        finally:
            self._nspawn.kill()
            self._nspawn.wait()

    def _lay_out(self) -> None:
        for folder in _FOLDERS:
            (self.root / folder).mkdir(parents=True)
        for folder in ("bin", "sbin", "lib", "lib64"):
            (self.root / folder).symlink_to(f"usr/{folder}")
        home = Path("/usr/bin") if _is_debians() else Path("/opt/tidegate/python/bin")
        (self.root / "opt/tidegate/bin/python3").symlink_to(home / "python3")
        shutil.copy("/etc/ld.so.cache", self.root / "etc")
        for name, text in {
            "etc/os-release": "ID=tidegate-test\n",
            "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\n",
            "etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
            "etc/group": "root:x:0:\ntty:x:5:\ndialout:x:20:\nnogroup:x:65534:\n", "etc/machine-id": "1" * 32 + "\n",
            "opt/tidegate/pyvenv.cfg": f"home = {home}\n", "opt/tidegate/bin/tidegate": _PROGRAM,
            "etc/systemd/system/plant.service": _PLANT,
            **{f"etc/tidegate/credentials/{name}.pem": "not used here\n" for name in _CREDENTIALS},
        }.items():  # fmt: skip
            (self.root / name).write_text(text)
        (self.root / "opt/tidegate/bin/tidegate").chmod(0o755)
        system = self.root / "etc/systemd/system"
        (system / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        (system / "multi-user.target.wants/plant.service").symlink_to("../plant.service")
        for path in UNITS.iterdir():
            (shutil.copytree if path.is_dir() else shutil.copy)(path, system / path.name)
        shutil.copy(UNITS / "sysusers.d/tidegate.conf", self.root / "etc/sysusers.d")

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        self._leader = int(children[0]) if children else 0
        return bool(children) and self.try_run("systemctl", "is-system-running").stdout.strip() == "running"

    # What is done inside

    def try_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "env", "--chdir=/"]
        return subprocess.run([*enter, *command], check=False, capture_output=True, text=True, timeout=LIMIT_S)

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


def _is_debians() -> bool:
    """Whether this system's own Python may run the packages that are installed here: it is what a service has."""
    return Path(f"/usr/bin/{_PYTHON}").exists()
