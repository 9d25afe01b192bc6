"""The packages for arm64 on this machine, under qemu: installed, and a gateway reads, seals and is verified.

    .venv/bin/python -m tests.faults.packages.arm64 [bookworm|trixie]

It takes minutes, root, arch-test, and qemu-user-static with its entry in binfmt_misc.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.packages.test_debian_packages import GATEWAY
from tests.support import debian

VERIFY = "verify /var/lib/tidegate/buffer --trust /var/lib/tidegate/identity.pub.pem"


def run_there(root: Path, command: str) -> str:
    """What a command says in that tree; it must succeed."""
    done = subprocess.run(
        ["chroot", root, "bash", "-c", command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}")
    return done.stdout


def main(release: str) -> None:
    """Install, run and verify; ends with 1 and what was said where something fails."""
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        sys.exit("this machine does not run programs for arm64: install arch-test, qemu-user-static and binfmt-support")
    with tempfile.TemporaryDirectory(prefix="tidegate-") as folder:
        root = Path(folder, "root")
        subprocess.run(["cp", "--archive", debian.root(release, "arm64"), root], check=True)
        for package in debian.packages(release, "arm64"):
            shutil.copy(package, root / "tmp")
        run_there(root, "dpkg --install /tmp/*.deb")
        (root / "etc/tidegate/gateway.yaml").write_text(GATEWAY)
        print(run_there(root, "dpkg --print-architecture; tidegate --version"), end="")
        run_there(root, "timeout --signal INT 60 tidegate run /etc/tidegate/gateway.yaml || [ $? = 124 ]")
        print(run_there(root, f"tidegate {VERIFY}"), end="")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["bookworm"]))
