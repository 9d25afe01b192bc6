"""A gateway on Debian 12 whose system is upgraded to Debian 13 with apt, which takes minutes and a network.

.venv/bin/python -m tests.faults.packages.system_upgrade
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults.packages.test_debian_packages import GATEWAY, Debian
from tests.support import debian

TRIXIE = "sed -i 's/bookworm/trixie/g' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null; true"


class Connected(Debian):
    """A Debian 12 that reaches Debian's packages, with those of Tidegate for Debian 13 in /trixie."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "bookworm")
        (self._upper / "trixie").mkdir()
        for package in debian.packages("trixie"):
            shutil.copy(package, self._upper / "trixie")

    def arguments(self) -> Sequence[str]:
        return ("--resolv-conf=replace-host",)


def upgrade(folder: Path) -> None:
    with Connected(folder) as machine:
        machine.wait_until_up()
        machine.install("old")
        machine.file("etc/tidegate/gateway.yaml").write_text(GATEWAY)
        machine.run("systemctl", "enable", "--now", "tidegate")
        before = machine.chain()

        machine.run("bash", "-c", TRIXIE)
        machine.apt("update")
        machine.apt("full-upgrade", "-o", "Dpkg::Options::=--force-confold")
        machine.apt("autoremove")
        print(f"Debian {machine.run('cat', '/etc/debian_version').strip()}; Tidegate is {machine.state()}")
        machine.run("systemctl", "restart", "tidegate")
        print(f"on {machine.run('readlink', '-f', f'/proc/{machine.process()}/exe').strip()} it goes on")
        assert machine.chain() == before

        machine.install("trixie")
        machine.run("systemctl", "restart", "tidegate")
        print(f"then {machine.state()} on {machine.run('readlink', '-f', f'/proc/{machine.process()}/exe').strip()}")
        assert machine.chain() == before
        print("one chain, wholly authentic, before and after")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tidegate-") as name:
        upgrade(Path(name))
