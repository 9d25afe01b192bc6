"""A machine with the shipped units: systemd itself as first process of namespaces of its own, on this one's programs.

Only /usr and the Python environment are shared, and cannot be changed from inside; it has no network but its loopback.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.faults.systemd import plant_inside
from tests.support.booted import BootedMachine

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "systemd"
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
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
        for address in (
            plant_inside.LISTED,
            plant_inside.NOT_LISTED,
            plant_inside.CALLED,
            plant_inside.CALLER,
            plant_inside.BROKER,
        )
    )
}
[Install]
WantedBy=multi-user.target
"""
_BROKER = """[Unit]
After=plant.service

[Service]
ExecStart=/usr/sbin/mosquitto -c /etc/mosquitto.conf
Restart=always
RestartSec=1
"""
_FOLDERS = (
    "etc/systemd/system/multi-user.target.wants", "etc/sysusers.d", "etc/tmpfiles.d", "etc/tidegate",
    "usr", "var", "proc", "sys", "dev", "tmp", "run", "root", "opt/tidegate/bin", "opt/tidegate/python",
    "opt/tidegate/lib/tidegate/edge",
    "opt/tidegate/lib/tidegate/drivers", "opt/tidegate/lib/tests", f"opt/tidegate/lib/{_PYTHON}/site-packages",
)  # fmt: skip
_DROP_INS = {
    "tidegate.service": ("devices", "broker", "serial", "dial-in"),
    "tidegate-acquire.service": ("devices", "serial", "dial-in"),
    "tidegate-forward.service": ("broker",),
}


class Machine(BootedMachine):
    """One such machine, running in its block."""

    def arguments(self) -> Sequence[str]:
        shared = {
            "/usr": "/usr", sysconfig.get_path("purelib"): f"/opt/tidegate/lib/{_PYTHON}/site-packages",
            str(ROOT / "edge"): "/opt/tidegate/lib/tidegate/edge",
            str(ROOT / "drivers"): "/opt/tidegate/lib/tidegate/drivers",
            str(ROOT / "tests"): "/opt/tidegate/lib/tests",
        }  # fmt: skip
        if not _is_debians():
            shared[sys.base_prefix] = "/opt/tidegate/python"
        return [*super().arguments(), *(f"--bind-ro={here}:{there}" for here, there in shared.items())]

    def __enter__(self) -> Self:
        self._lay_out()
        with ExitStack() as stack:
            super().__enter__()
            stack.push(super().__exit__)
            self.wait_until_up()
            stack.pop_all()
        return self

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
            "etc/systemd/system/plant.service": _PLANT, "etc/systemd/system/broker.service": _BROKER,
            "etc/mosquitto.conf": f"user root\nlistener 1883 {plant_inside.BROKER}\nallow_anonymous true\n",
        }.items():  # fmt: skip
            (self.root / name).write_text(text)
        (self.root / "opt/tidegate/bin/tidegate").chmod(0o755)
        system = self.root / "etc/systemd/system"
        (system / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        (system / "multi-user.target.wants/plant.service").symlink_to("../plant.service")
        for path in UNITS.glob("*.service"):
            shutil.copy(path, system)
        for unit, parts in _DROP_INS.items():
            (system / f"{unit}.d").mkdir()
            for part in parts:
                shutil.copy(UNITS / f"drop-ins/{part}.conf", system / f"{unit}.d")
        for kind in ("sysusers.d", "tmpfiles.d"):
            for path in (UNITS / kind).iterdir():
                shutil.copy(path, self.root / "etc" / kind)


def _is_debians() -> bool:
    """Whether this system's own Python may run the packages that are installed here: it is what a service has."""
    return Path(f"/usr/bin/{_PYTHON}").exists()
